"""The settings of a stack and the types of their values; `rules` holds what they must be together."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.airflow_platform import NAMESPACE
from infra.existing_cluster_names import PLATFORM_SUFFIX
from infra.settings.instance_families import Architecture

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
IamArn = Annotated[str, Field(pattern=r"^arn:aws:iam::\d{12}:(role|user)/[\w+=,.@/-]+$")]

# https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
TagValue = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w .:/=+@-]+$")]

# As Karpenter reads them: https://karpenter.sh/docs/concepts/disruption/
Duration = Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$")]
HoursAndMinutes = Annotated[str, Field(pattern=r"^([0-9]+h|[0-9]+m|[0-9]+h[0-9]+m)$")]
Schedule = Annotated[str, Field(pattern=r"^(@(yearly|monthly|weekly|daily|hourly)|\S+( \S+){4})$")]
Nodes = Annotated[str, Field(pattern=r"^(100|[1-9]?[0-9])%$|^[0-9]+$")]

# What `git check-ref-format --branch` takes, without the characters that nobody uses.
Branch = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
Folder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")]

# The name of a context in a kubeconfig file, where `*` stands for anything.
ContextPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:/@_*-]+$")]

# A namespace of Kubernetes, short enough for that of the servers beside it:
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
NamespaceName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=63 - len(PLATFORM_SUFFIX))]


class Model(BaseModel):
    """What all models of settings have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NetworkSettings(Model):
    """The VPC."""

    cidr: IPv4Network
    """The VPC's private addresses, /16 to /20: pods, nodes and the database get theirs from it."""
    # Three zones of AWS take no control plane: https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
    zones: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]
    """Two or three availability zones of the region; EKS and RDS need two."""
    nat_gateways: Literal["one", "one_per_zone"]
    """The way out for private subnets: one for all, or one in each zone, so that no zone depends on another."""
    interface_endpoints: tuple[
        Literal["ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "kms", "logs", "secretsmanager", "sts"], ...
    ] = ()
    """AWS services that private subnets reach without the NAT gateway; each costs by the hour and zone."""
    flow_log_days: LogDays | None = None
    """How long records of the VPC's traffic are kept; without it there are none."""


class ClusterSettings(Model):
    """The EKS cluster."""

    kubernetes_version: Annotated[str, Field(pattern=r"^1\.(3[3-9]|[4-9][0-9])$")]
    """The version of Kubernetes, such as 1.35."""
    service_cidr: IPv4Network = IPv4Network("172.20.0.0/16")
    """The addresses of Kubernetes Services, /12 to /24, outside the VPC; fixed when the cluster is created."""
    public_access_cidrs: tuple[IPv4Network, ...] = ()
    """Networks that may reach the Kubernetes API from outside the VPC; without any it is reached from the VPC alone."""
    admin_arns: tuple[IamArn, ...] = ()
    """IAM roles and users that administer the cluster; without any it is whoever creates it."""
    reader_arns: tuple[IamArn, ...] = ()
    """IAM roles and users that see everything in the cluster but Secrets; EKS makes no other entry for them."""
    log_types: tuple[Literal["api", "audit", "authenticator", "controllerManager", "scheduler"], ...]
    """The control plane's logs that CloudWatch keeps."""
    log_days: LogDays
    """How long CloudWatch keeps them."""


class DisruptionBudget(Model):
    """How many nodes Karpenter may take away at once."""

    nodes: Nodes
    """A number or a percentage."""
    reasons: tuple[Literal["Underutilized", "Empty", "Drifted"], ...] = ()
    """The reasons for which the budget holds; all without any."""
    schedule: Schedule | None = None
    """When the budget begins to hold, as a cron line in UTC; always without it."""
    duration: HoursAndMinutes | None = None
    """How long it then holds, such as 8h30m."""


class NodePoolSettings(Model):
    """A pool of nodes that grows from nothing and shrinks to it."""

    instance_families: Annotated[tuple[str, ...], Field(min_length=1)]
    """EC2 instance families; the cheapest size that fits is started."""
    architecture: Architecture
    """The processors' architecture, which is that of the images."""
    capacity_types: Annotated[tuple[Literal["spot", "on-demand"], ...], Field(min_length=1)]
    """With both, spot is tried first."""
    max_cpus: Annotated[int, Field(gt=0)]
    """vCPUs of the whole pool at most."""
    max_memory_gib: Annotated[int, Field(gt=0)]
    """Memory of the whole pool at most."""
    disk_gib: Annotated[int, Field(ge=20, le=16384)]
    """Each node's disk: container images, and what pods write."""
    consolidation: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"]
    """Which nodes are taken away to save money."""
    consolidate_after: Duration
    """How long a node must have been like that, such as 5m."""
    disruption_budgets: tuple[DisruptionBudget, ...] = (DisruptionBudget(nodes="10%"),)
    """How many nodes may go at once; the strictest budget wins."""


class GpuPoolSettings(NodePoolSettings):
    """A pool of nodes with NVIDIA GPUs; the account's own quota for them is often none until more is asked for.

    https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
    """

    max_gpus: Annotated[int, Field(gt=0)]
    """GPUs of the whole pool at most: a bill without a limit is not to be had."""


class NodePoolsSettings(Model):
    """The cluster's nodes."""

    cpu: NodePoolSettings
    """Nodes for everything that asks for no GPU; Airflow itself runs here."""
    gpu: GpuPoolSettings | None = None
    """Nodes for pods that ask for a GPU; without it the same tasks run on CPUs."""


class StorageSettings(Model):
    """The buckets."""

    cold_storage_days: Annotated[int, Field(ge=30)]
    """Age at which data moves to cheaper storage that answers as fast but charges for reading."""
    old_version_days: Annotated[int, Field(ge=1)]
    """How long overwritten and deleted objects can be brought back."""
    log_days: Annotated[int, Field(ge=1)]
    """How long Airflow's task logs are kept."""
    access_log_days: Annotated[int, Field(ge=1)] | None = None
    """How long records of requests to the buckets are kept; without it there are none."""


class DatabaseSettings(Model):
    """The PostgreSQL server."""

    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Support.html
    instance_class: Annotated[
        str,
        Field(
            pattern=r"^db\.(t3|t4g|m5|m6g|m6i|m7g|m7i|m8g|r5|r6g|r6i|r7g|r7i|r8g)\.(micro|small|medium|[0-9]*x?large)$"
        ),
    ]
    """The size of the server, such as db.t4g.micro."""
    storage_gib: Annotated[int, Field(ge=20, le=65536)]
    """Disk at the beginning."""
    max_storage_gib: Annotated[int, Field(ge=22, le=65536)]
    """Disk at most: it grows by itself when it fills up; at least a tenth more than at the beginning."""
    multi_az: bool
    """Whether a copy in a second zone takes over when the first fails."""
    backup_days: Annotated[int, Field(ge=1, le=35)]
    """How many days back the database can be restored to any second."""


class DagSettings(Model):
    """The Git repository whose DAGs run."""

    repository: Annotated[str, Field(pattern=r"^\S+$")]
    """Its address, as `git clone` takes it, without a password."""
    branch: Branch
    """The branch that the stack follows: what is pushed to it is live within seconds."""
    folder: Folder = "dags"
    """The folder of the DAGs in the repository."""
    credentials: Literal["none", "ssh", "token"] = "none"
    """How the repository is read: openly, by an SSH key, or by a user's token; `make dags-key` stores either."""
    known_hosts: str = ""
    """The host keys of its SSH server, as `ssh-keyscan` prints them; compare them with what its owner publishes."""


class TaskSettings(Model):
    """What the pods of all running tasks may ask for together; further tasks wait in the queue."""

    max_pods: Annotated[int, Field(gt=0)]
    """Pods at most."""
    max_cpus: Annotated[int, Field(gt=0)]
    """vCPUs at most."""
    max_memory_gib: Annotated[int, Field(gt=0)]
    """Memory at most."""


class GateSettings(Model):
    """What a release must have passed before it is promoted into the stack."""

    tests: bool = True
    """Whether the test suite must have passed on its commit."""
    dag_integrity: bool = True
    """Whether all its DAG files must be readable, with unique names and without cycles."""
    plan_review: bool = False
    """Whether somebody must have read and approved what it changes in this stack."""
    upgrade_rehearsal: bool = False
    """Whether its migrations must have run on a copy of this stack's database."""
    max_cost_increase_usd: Annotated[float, Field(ge=0)] | None = None
    """By how many dollars a month, at the stated load, it may make this stack dearer; without it by any."""
    soak_hours: Annotated[float, Field(ge=0)] = 0
    """How long it must have run in the stack before."""


class ReleaseSettings(Model):
    """How releases come into the stack: its branch moves by `make promote` and `make rollback` alone."""

    after: str | None = None
    """The stack whose releases are promoted into this one; without it they are built from this stack's branch."""
    signed_by: str | None = None
    """Whose signature the images must bear, as a regular expression of the identity; without it none is asked for."""
    gates: GateSettings = GateSettings()
    """What a release must have passed before."""


class Settings(Model):
    """Everything that differs between stacks on AWS, and nothing secret."""

    region: str
    """The AWS region."""
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """The AWS account; credentials of another one are refused."""
    deploy_role_arn: IamArn | None = None
    """An IAM role that deployments take on, in AWS and in the cluster, instead of the credentials at hand."""
    owner: TagValue
    """Who answers for the stack: the tag `owner`."""
    cost_center: TagValue
    """Who pays for it: the tag `cost-center`."""
    protect: bool
    """Whether what holds data is kept from deletion and leaves a last snapshot."""
    network: NetworkSettings
    """The VPC."""
    cluster: ClusterSettings
    """The EKS cluster."""
    node_pools: NodePoolsSettings
    """The cluster's nodes."""
    storage: StorageSettings
    """The buckets."""
    database: DatabaseSettings
    """The PostgreSQL server."""
    dags: DagSettings
    """The Git repository whose DAGs run."""
    release: ReleaseSettings | None = None
    """How releases come into the stack; without it whoever may deploy it deploys what lies in the folder."""
    max_previews: Annotated[int, Field(ge=0)] = 5
    """Preview environments of branches at most in the stack's cluster."""
    tasks: TaskSettings
    """What running tasks may ask for."""


class ExistingClusterSettings(Model):
    """Everything that differs between stacks on clusters that are there already, and nothing secret."""

    contexts: Annotated[tuple[ContextPattern, ...], Field(min_length=1)]
    """The contexts of the kubeconfig file into which the stack may go; `*` stands for anything, as in kind-*."""
    namespace: NamespaceName = NAMESPACE
    """The namespace of Airflow; database, object store and Git server are beside it, in `<namespace>-platform`."""
    storage_class: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    """The class of the volumes; without it the cluster's default."""
    dags: DagSettings | None = None
    """The Git repository whose DAGs run; without it a Git server in the cluster takes what `make sync` pushes."""
    registry: Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$")] | None = None
    """Where images are pushed to and pulled from, such as registry.example.com/ml; without it they are loaded."""
    release: ReleaseSettings | None = None
    """How releases come into the stack; it needs `dags` and `registry`."""
    max_previews: Annotated[int, Field(ge=0)] = 5
    """Preview environments of branches at most in the stack's cluster."""
    tasks: TaskSettings
    """What running tasks may ask for."""
