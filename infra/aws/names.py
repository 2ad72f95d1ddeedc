"""Names of AWS resources: derived from project and stack, and never longer than AWS allows."""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

HASH_LENGTH = 6

# The namespace where databases are created; only that Job reads the administrator's password.
SETUP_NAMESPACE = "database-setup"
# The mirror of Docker's official image in ECR Public, which does not limit anonymous pulls from within AWS.
POSTGRES_CLIENT_IMAGE = "public.ecr.aws/docker/library/postgres:17.6-alpine"
POSTGRES_CLIENT_USER_ID = 70

# The paths of the log groups of cluster, network and database, below /aws/.
LOG_GROUPS = ("eks", "vpc", "rds/instance")


class Limit(IntEnum):
    """The maximum length of names, by kind of resource."""

    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entity-length
    ROLE = 64
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    BUCKET = 63
    # https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
    CLUSTER = 100
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html#RDS_Limits.Constraints
    DATABASE = 63
    # https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBSubnetGroup.html
    SUBNET_GROUP = 255
    # https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
    REPOSITORY = 256
    # https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateAlias.html
    ALIAS = 256
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html
    SECURITY_GROUP = 255
    # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    SECRET = 512
    # https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_CreateLogGroup.html
    LOG_GROUP = 512
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    ALARM = 255
    # https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
    TOPIC = 256
    # https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_Budget.html
    BUDGET = 100
    # https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html
    TAG = 256


@dataclass(frozen=True)
class Names:
    """The names of one stack."""

    project: str
    stack: str

    @property
    def prefix(self) -> str:
        """The prefix of all names of the stack."""
        return f"{self.project}-{self.stack}"

    def of(self, purpose: str, limit: Limit) -> str:
        """Return the name of the resource with this purpose."""
        return shortened(f"{self.prefix}-{purpose}", limit)

    def bucket(self, purpose: str, account: str) -> str:
        """Return the name of a bucket: globally unique, because it contains the account ID."""
        return shortened(f"{self.prefix}-{purpose}-{account}", Limit.BUCKET)

    def path(self, purpose: str, limit: Limit) -> str:
        """Return a name in the form of a path, for resources that are grouped by path."""
        return shortened(f"{self.prefix}/{purpose}", limit)


def shortened(name: str, limit: int) -> str:
    """Return the name; if it is too long, return its beginning and a hash of the whole name."""
    if len(name) <= limit:
        return name
    digest = sha256(name.encode()).hexdigest()[:HASH_LENGTH]
    return f"{name[: limit - HASH_LENGTH - 1].rstrip('-/')}-{digest}"
