"""The settings of a stack and their types; `rules` has the checks that involve several settings."""

from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.airflow_names import NAMESPACE, POOL_NAME
from infra.existing_cluster_names import PLATFORM_SUFFIX
from infra.settings.instance_families import Architecture, CapacityType

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
IamArn = Annotated[str, Field(pattern=r"^arn:aws:iam::\d{12}:(role|user)/[\w+=,.@/-]+$")]
PolicyArn = Annotated[str, Field(pattern=r"^arn:aws:iam::\d{12}:policy/[\w+=,.@/-]+$")]

# https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
TagValue = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[\w .:/=+@-]+$")]

# The formats of Karpenter: https://karpenter.sh/docs/concepts/disruption/
Duration = Annotated[str, Field(pattern=r"^([0-9]+(s|m|h))+$")]
HoursAndMinutes = Annotated[str, Field(pattern=r"^([0-9]+h|[0-9]+m|[0-9]+h[0-9]+m)$")]
Schedule = Annotated[str, Field(pattern=r"^(@(yearly|monthly|weekly|daily|hourly)|\S+( \S+){4})$")]
Nodes = Annotated[str, Field(pattern=r"^(100|[1-9]?[0-9])%$|^[0-9]+$")]

# The names that `git check-ref-format --branch` accepts, without unusual characters.
Branch = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
Folder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")]

# The name of a context in a kubeconfig file; `*` is a wildcard.
ContextPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:/@_*-]+$")]

# https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
InstanceSize = Annotated[str, Field(pattern=r"^(medium|large|[0-9]*xlarge|metal(-[0-9]+xl)?)$")]

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
LABEL = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LabelKey = Annotated[str, Field(pattern=rf"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{LABEL}$")]
LabelValue = Annotated[str, Field(pattern=rf"^({LABEL})?$")]

ModelApproval = Literal["none", "required"]
WandbMode = Literal["disabled", "offline", "online"]

# A Kubernetes namespace, short enough to append the longest suffix, that of the servers' namespace:
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
NamespaceName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=63 - len(PLATFORM_SUFFIX))]


class Model(BaseModel):
    """The base class of all settings models."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NetworkSettings(Model):
    """The VPC."""

    cidr: IPv4Network
    """The VPC's private address range, /16 to /20, for pods, nodes and the database."""
    # EKS does not support three availability zones: https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
    zones: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]
    """Two or three availability zones of the region; the control plane keeps the first two, a third can be added."""
    nat_gateways: Literal["one", "one_per_zone"]
    """NAT gateways for the private subnets: one for all, or one per zone so that no zone depends on another."""
    interface_endpoints: tuple[
        Literal["ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "kms", "logs", "secretsmanager", "sts"], ...
    ] = ()
    """AWS services that private subnets reach without the NAT gateway; each is billed per hour and zone."""
    flow_log_days: LogDays | None = None
    """Retention of VPC flow logs in days; flow logs are disabled if unset."""


class ClusterSettings(Model):
    """The EKS cluster."""

    kubernetes_version: Annotated[str, Field(pattern=r"^1\.(3[3-9]|[4-9][0-9])$")]
    """The Kubernetes version, such as 1.35."""
    service_cidr: IPv4Network = IPv4Network("172.20.0.0/16")
    """The address range of Kubernetes Services, /12 to /24, outside the VPC; fixed once the cluster is created."""
    public_access_cidrs: tuple[IPv4Network, ...] = ()
    """Networks outside the VPC that may reach the Kubernetes API; if empty, it is reachable only from the VPC."""
    admin_arns: tuple[IamArn, ...] = ()
    """IAM roles and users that administer the cluster; if empty, the identity that creates it does."""
    reader_arns: tuple[IamArn, ...] = ()
    """IAM roles and users that may read everything in the cluster except Secrets; they have no other access entry."""
    log_types: tuple[Literal["api", "audit", "authenticator", "controllerManager", "scheduler"], ...]
    """The control plane logs that are sent to CloudWatch."""
    log_days: LogDays
    """Retention of these logs in days."""


class DisruptionBudget(Model):
    """How many nodes Karpenter may remove at once."""

    nodes: Nodes
    """A number or a percentage of nodes."""
    reasons: tuple[Literal["Underutilized", "Empty", "Drifted"], ...] = ()
    """The reasons that the budget applies to; all reasons if empty."""
    schedule: Schedule | None = None
    """When the budget becomes active, as a cron expression in UTC; always active if unset."""
    duration: HoursAndMinutes | None = None
    """How long the budget stays active, such as 8h30m."""


class Taint(Model):
    """A taint of nodes: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/."""

    key: LabelKey
    """The key of the taint; tasks that name the node pool tolerate it."""
    value: LabelValue = ""
    """The value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """What happens to pods that do not tolerate the taint."""


class NodePoolSettings(Model):
    """A node pool that scales from zero and back to zero."""

    instance_families: Annotated[tuple[str, ...], Field(min_length=1)]
    """EC2 instance families; Karpenter starts the cheapest size that fits."""
    instance_sizes: tuple[InstanceSize, ...] = ()
    """The sizes that Karpenter may start, such as xlarge; all sizes of the families if empty."""
    architecture: Architecture
    """The processor architecture; images are built for it."""
    capacity_types: Annotated[tuple[CapacityType, ...], Field(min_length=1)]
    """The EC2 capacity types; if both are listed, spot is tried first."""
    max_cpus: Annotated[int, Field(gt=0)]
    """Maximum vCPUs of the whole pool."""
    max_memory_gib: Annotated[int, Field(gt=0)]
    """Maximum memory of the whole pool in GiB."""
    # New AWS accounts often have no quota for GPU instances and must request one:
    # https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
    max_gpus: Annotated[int, Field(gt=0)] | None = None
    """Maximum GPUs of the whole pool, for a pool of nodes with NVIDIA GPUs; unset for a pool without GPUs."""
    labels: dict[LabelKey, LabelValue] = {}
    """Additional labels of the nodes."""
    taints: tuple[Taint, ...] = ()
    """Additional taints of the nodes."""
    disk_gib: Annotated[int, Field(ge=20, le=16384)]
    """Disk of each node in GiB, for container images and files that pods write."""
    consolidation: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"]
    """Which nodes Karpenter removes to save cost."""
    consolidate_after: Duration
    """How long a node must be empty or underutilized before it is removed, such as 5m."""
    disruption_budgets: tuple[DisruptionBudget, ...] = (DisruptionBudget(nodes="10%"),)
    """How many nodes may be removed at once; the strictest budget applies."""


NodePools = dict[Annotated[str, Field(pattern=POOL_NAME)], NodePoolSettings]


class StorageSettings(Model):
    """The S3 buckets."""

    cold_storage_days: Annotated[int, Field(ge=30)]
    """Age in days at which data moves to a storage class that is cheaper, equally fast, and charges for reads."""
    old_version_days: Annotated[int, Field(ge=1)]
    """How many days overwritten and deleted objects can be restored."""
    log_days: Annotated[int, Field(ge=1)]
    """Retention of Airflow's task logs in days."""
    access_log_days: Annotated[int, Field(ge=1)] | None = None
    """Retention of the buckets' access logs in days; access logs are disabled if unset."""


class DatabaseSettings(Model):
    """The PostgreSQL server."""

    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Support.html
    instance_class: Annotated[
        str,
        Field(
            pattern=r"^db\.(t3|t4g|m5|m6g|m6i|m7g|m7i|m8g|r5|r6g|r6i|r7g|r7i|r8g)\.(micro|small|medium|[0-9]*x?large)$"
        ),
    ]
    """The RDS instance class, such as db.t4g.micro."""
    storage_gib: Annotated[int, Field(ge=20, le=65536)]
    """Initial disk size in GiB."""
    max_storage_gib: Annotated[int, Field(ge=22, le=65536)]
    """Maximum disk size in GiB for storage autoscaling; at least 10 % more than the initial size."""
    multi_az: bool
    """Whether a standby in a second zone takes over if the primary fails."""
    backup_days: Annotated[int, Field(ge=1, le=35)]
    """Retention of backups in days; the database can be restored to any second within it."""
    apply_changes: Literal["immediately", "maintenance_window"] = "maintenance_window"
    """When changes of the class and of the storage take effect. A new class restarts the server."""


class DagSettings(Model):
    """The Git repository of the DAGs."""

    repository: Annotated[str, Field(pattern=r"^\S+$")]
    """The repository's address, as for `git clone`, without a password."""
    branch: Branch
    """The branch that the stack follows; pushed commits are live within seconds."""
    folder: Folder = "dags"
    """The folder of the DAGs in the repository."""
    credentials: Literal["none", "ssh", "token"] = "none"
    """How to authenticate: not at all, with an SSH key, or with a user's token; `make dags-key` stores key or token."""
    known_hosts: str = ""
    """The SSH host keys of the server, from `ssh-keyscan`; verify them against the keys that the host publishes."""


class TaskSettings(Model):
    """The total requests of all running task pods; further tasks wait in the queue."""

    max_pods: Annotated[int, Field(gt=0)]
    """Maximum number of task pods."""
    max_cpus: Annotated[int, Field(gt=0)]
    """Maximum vCPUs."""
    max_memory_gib: Annotated[int, Field(gt=0)]
    """Maximum memory in GiB."""


class GateSettings(Model):
    """The gates that a release must pass before it is promoted to the stack."""

    tests: bool = True
    """Require that the test suite passed on the release's commit."""
    dag_integrity: bool = True
    """Require that all DAG files can be parsed and that DAGs have unique names and no cycles."""
    plan_review: bool = False
    """Require that a reviewer approved the plan of the changes to this stack."""
    upgrade_rehearsal: bool = False
    """Require that the release's migrations succeeded on a copy of this stack's database."""
    max_cost_increase_usd: Annotated[float, Field(ge=0)] | None = None
    """Maximum increase of the monthly cost in USD, at the stated load; unlimited if unset."""
    soak_hours: Annotated[float, Field(ge=0)] = 0
    """Minimum hours that the release must have run in the previous stack."""


class LineageSettings(Model):
    """The server for lineage: which folders and tables each task reads and writes, as OpenLineage events."""

    url: Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?$")]
    """The server's address, such as https://marquez.example.com; events are sent to <url>/api/v1/lineage."""
    connection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] | None = None
    """The Airflow connection whose password is the server's API key; no key is sent if unset."""


class AlarmSettings(Model):
    """CloudWatch alarms about the database, NAT gateways and vCPU quotas; $0.10 per month each, see `make plan`."""

    emails: Annotated[tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")], ...], Field(min_length=1)]
    """Who gets the alarms, once they have confirmed AWS' message; a Slack channel and PagerDuty have addresses too."""
    monthly_budget_usd: Annotated[float, Field(ge=1)] | None = None
    """The expected monthly cost of the stack: a message is sent at 80 %, and when AWS forecasts more. Free."""


class ReleaseSettings(Model):
    """The stack's releases; only `make promote` and `make rollback` move its branch."""

    after: str | None = None
    """The previous stack, whose releases are promoted to this one; if unset, releases are built from the branch."""
    signed_by: str | None = None
    """A regular expression for the identity that must have signed the images; no signature is required if unset."""
    gates: GateSettings = GateSettings()
    """The gates that a release must pass first."""


class Settings(Model):
    """The settings of a stack on AWS; they contain no secrets."""

    region: str
    """The AWS region."""
    account_id: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """The AWS account ID; credentials of any other account are refused."""
    deploy_role_arn: IamArn | None = None
    """An IAM role that deployments assume, in AWS and in the cluster, instead of using the caller's credentials."""
    permissions_boundary: PolicyArn | None = None
    """The IAM policy that bounds the permissions of all roles of the stack; `make github-roles` creates it."""
    preview_permissions_boundary: PolicyArn | None = None
    """The same for the roles of preview environments, which run code that is not merged yet."""
    owner: TagValue
    """The person or team responsible for the stack: the tag `owner`."""
    cost_center: TagValue
    """The cost center that pays for the stack: the tag `cost-center`."""
    protect: bool
    """Whether resources with data are protected from deletion and leave a final snapshot."""
    network: NetworkSettings
    """The VPC."""
    cluster: ClusterSettings
    """The EKS cluster."""
    node_pools: NodePools
    """The cluster's node pools by name: `cpu` for Airflow itself and tasks that name no pool, `gpu` for their GPUs, and
    others for the tasks that name them. Without any pool with GPUs, the same tasks run on CPUs."""
    storage: StorageSettings
    """The S3 buckets."""
    database: DatabaseSettings
    """The PostgreSQL server."""
    dags: DagSettings
    """The Git repository of the DAGs."""
    release: ReleaseSettings | None = None
    """The stack's releases; if unset, releases are not enabled and deployments use the working tree."""
    max_previews: Annotated[int, Field(ge=0)] = 5
    """Maximum number of preview environments in the stack's cluster."""
    model_approval: ModelApproval = "none"
    """Whether a person must approve a model before a DAG promotes it; tasks find it in MODEL_APPROVAL."""
    lineage: LineageSettings | None = None
    """The server for lineage, which preview environments do not use; lineage is off if unset."""
    wandb: WandbMode = "disabled"
    """Whether DAGs record runs in Weights & Biases: offline in the artifacts bucket, or online; not in previews."""
    external_connections: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")], ...] = ()
    """The Airflow connections to systems outside the stack that exist, for DAGs that train there; not in previews."""
    alarms: AlarmSettings | None = None
    """Alarms that reach people; there are none if unset."""
    tasks: TaskSettings
    """The total requests of running tasks."""


class ExistingClusterSettings(Model):
    """The settings of a stack on an existing cluster; they contain no secrets."""

    contexts: Annotated[tuple[ContextPattern, ...], Field(min_length=1)]
    """The contexts of the kubeconfig file that the stack may use; `*` is a wildcard, as in kind-*."""
    namespace: NamespaceName = NAMESPACE
    """The namespace of Airflow; tasks run in `<namespace>-tasks`, the servers in `<namespace>-platform`."""
    storage_class: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")] | None = None
    """The storage class of the volumes; the cluster's default if unset."""
    dags: DagSettings | None = None
    """The Git repository of the DAGs; if unset, a Git server in the cluster holds what `make sync` pushes."""
    registry: Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$")] | None = None
    """The registry for images, such as registry.example.com/ml; if unset, images are loaded onto the nodes."""
    release: ReleaseSettings | None = None
    """The stack's releases; require `dags` and `registry`."""
    max_previews: Annotated[int, Field(ge=0)] = 5
    """Maximum number of preview environments in the stack's cluster."""
    model_approval: ModelApproval = "none"
    """Whether a person must approve a model before a DAG promotes it; tasks find it in MODEL_APPROVAL."""
    lineage: LineageSettings | None = None
    """The server for lineage, which preview environments do not use; lineage is off if unset."""
    wandb: WandbMode = "disabled"
    """Whether DAGs record runs in Weights & Biases: offline in the artifacts bucket, or online; not in previews."""
    external_connections: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")], ...] = ()
    """The Airflow connections to systems outside the stack that exist, for DAGs that train there; not in previews."""
    tasks: TaskSettings
    """The total requests of running tasks."""
