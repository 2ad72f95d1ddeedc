"""Names, labels, ports and user IDs that the program and the commands share.

Imports nothing, because importing Pulumi's providers takes longer than most commands.
"""

# Airflow's namespace, unless a stack's settings name another.
NAMESPACE = "airflow"

# The namespace of tasks is Airflow's namespace with this suffix.
TASKS_SUFFIX = "-tasks"
# A label of every namespace: https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-metadata-name
NAMESPACE_LABEL = "kubernetes.io/metadata.name"

# The login of Airflow's administrator, and the key of the DAG repository.
ADMIN_SECRET = "airflow-admin"  # noqa: S105
DAGS_SECRET = "dags-git"  # noqa: S105

# The label of the name of pods outside the chart.
NAME_LABEL = "app.kubernetes.io/name"

# The label of the chart's pods, and its value for task pods.
COMPONENT_LABEL = "component"
WORKER = "worker"
# Its values for the components that log in to Airflow's database.
COMPONENTS_WITH_DATABASE = (
    "scheduler",
    "api-server",
    "dag-processor",
    "triggerer",
    "run-airflow-migrations",
    "database-cleanup",
)
API_SERVER_PORT = 8080
USER_ID = 50000  # the user of images/airflow

# The link in the chart's volume of DAGs that git-sync updates.
DAGS_LINK = "/opt/airflow/dags/repo"
# The server in the dag-processor's pod from which tasks fetch the DAGs: images/airflow/lib/dags_server.py.
DAGS_SERVER = "airflow-dags"
DAGS_SERVER_PORT = 8800

# The components that run authors' code: each logs in to the database as its own user, whose name is that of the
# owner and the component's, and whose rights images/airflow/bin/database_users.py lists.
DATABASE_USERS = ("dag-processor", "triggerer")

# Where pods find the certificate authorities of the database server, and the ConfigMap that holds them.
DATABASE_CA = "database-ca"
DATABASE_CA_FOLDER = "/etc/database-ca"
DATABASE_CA_FILE = "ca.pem"

MLFLOW = "mlflow"
MLFLOW_PORT = 5000
MLFLOW_LABELS = {NAME_LABEL: MLFLOW}
MLFLOW_ADMIN_SECRET = "mlflow-admin"  # noqa: S105

# As in dags/ml_common/serving_manifests.py.
SERVING_LABELS = {"app.kubernetes.io/component": "serving"}
SERVING_PORT = 8080

# As in dags/ml_common/pods.py: https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/
GPU_RESOURCE = "nvidia.com/gpu"

# The label that Karpenter gives to the nodes of a pool, the format of a pool's name, and the pools of tasks that name
# none, without and with GPUs.
POOL_LABEL = "karpenter.sh/nodepool"
POOL_NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
CPU_POOL = "cpu"
GPU_POOL = "gpu"
# The taint of all other pools, so that only the tasks that name them run there.
POOL_TAINT = "node-pool"

# Network policies let pods with these labels reach the database server.
DATABASE_SETUP_LABELS = {NAME_LABEL: "database-setup"}


def tasks_namespace(namespace: str) -> str:
    """Return the namespace of the tasks of the Airflow in a namespace."""
    return f"{namespace}{TASKS_SUFFIX}"


def database_setup_name(database: str) -> str:
    """Return the name prefix of the Job and the Secret that create a database."""
    return f"create-{database}"
