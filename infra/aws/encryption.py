"""The KMS keys: one for data, one for the cluster."""

import pulumi
import pulumi_aws as aws

from infra.aws.account import Account
from infra.aws.names import LOG_GROUPS, Limit
from infra.aws.policies import ALARM_SENDERS, Statement, document, this_account

# The waiting period before a key is deleted; without the key, its data cannot be read.
# https://docs.aws.amazon.com/kms/latest/APIReference/API_ScheduleKeyDeletion.html
SHORTEST_DELETION_DAYS = 7
LONGEST_DELETION_DAYS = 30


class Encryption(pulumi.ComponentResource):
    """The KMS keys.

    Attributes:
        data_key_arn: The key for buckets, database and stored passwords.
        cluster_key_arn: The key for Kubernetes Secrets, the logs of cluster, network and database, and alarms.
    """

    data_key_arn: pulumi.Output[str]
    cluster_key_arn: pulumi.Output[str]

    def __init__(
        self, name: str, account: Account, *, alarms: bool, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Create the keys and their aliases; with `alarms`, alarms may use the cluster's key."""
        super().__init__("airflow:aws:Encryption", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account

        data_policy = account.id.apply(data_key_policy)
        cluster_policy = account.id.apply(
            lambda account_id: cluster_key_policy(account_id, account.region, account.names.prefix, alarms=alarms)
        )
        self.data_key_arn = self._create_key("data", "buckets, database and stored passwords", data_policy)
        self.cluster_key_arn = self._create_key("cluster", "Kubernetes Secrets and logs", cluster_policy)

        self.register_outputs({"data_key_arn": self.data_key_arn, "cluster_key_arn": self.cluster_key_arn})

    def _create_key(self, purpose: str, description: str, policy: pulumi.Output[str]) -> pulumi.Output[str]:
        names, protect = self._account.names, self._account.protect
        key = aws.kms.Key(
            f"{purpose}-key",
            description=f"{names.prefix}: {description}",
            policy=policy,
            enable_key_rotation=True,
            deletion_window_in_days=LONGEST_DELETION_DAYS if protect else SHORTEST_DELETION_DAYS,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(protect=protect)),
        )
        aws.kms.Alias(
            f"{purpose}-key-alias",
            name=f"alias/{names.of(purpose, Limit.ALIAS)}",
            target_key_id=key.key_id,
            opts=self._child_opts,
        )
        return key.arn


def data_key_policy(account: str) -> str:
    """Return a policy that delegates access to the key to IAM policies of the account."""
    return document(_account_statement(account))


def cluster_key_policy(account: str, region: str, prefix: str, *, alarms: bool) -> str:
    """Return a policy that also lets CloudWatch encrypt the stack's log groups, and services send encrypted alarms.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/logs/encrypt-log-data-kms.html
    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    """
    groups = [f"arn:aws:logs:{region}:{account}:log-group:/aws/{path}/{prefix}-*" for path in LOG_GROUPS]
    logs = Statement(
        ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
         "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"),
        ("*",),
        conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
        principals={"Service": f"logs.{region}.amazonaws.com"},
    )  # fmt: skip
    sending = [
        Statement(
            ("kms:Decrypt", "kms:GenerateDataKey"),
            ("*",),
            conditions=this_account(account),
            principals={"Service": service},
        )
        for service in ALARM_SENDERS
    ]
    return document(_account_statement(account), logs, *(sending if alarms else ()))


def _account_statement(account: str) -> Statement:
    # In a key policy, "*" means this key. Without access for the account, the key could become unmanageable:
    # https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html
    return Statement(("kms:*",), ("*",), principals={"AWS": f"arn:aws:iam::{account}:root"})
