"""The chart's values: those of helm-values/, and the names of the resources that the program creates."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from infra import computing, feature_store, helm_values, mlflow_server, mlflow_users
from infra.airflow import dags_server, secrets
from infra.airflow.chart import schema
from infra.airflow.priorities import CONTROL_PLANE, TASK, class_name
from infra.airflow.validation import ValuesError, check
from infra.airflow_names import (
    ADMIN_SECRET,
    API_SERVER_PORT,
    DAGS_LINK,
    DAGS_SECRET,
    DATABASE_CA,
    DATABASE_CA_FOLDER,
    MLFLOW,
    MLFLOW_PORT,
)
from infra.airflow_platform import LOGS_PREFIX, Component, DagSource, Platform
from infra.dag_declarations import account_name, declarations
from infra.database_connections import API_SERVER, CLEANUP, COMPONENT, Pool
from infra.documents import DocumentError
from infra.settings import TaskSettings

OBJECT_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Each component waits for the database itself, so that they can start in any order.
WAITING = ("scheduler", "apiServer", "dagProcessor", "triggerer")
# The components that run authors' code, which have their own Secrets: as in infra/airflow_names.py.
USERS_BY_SECTION = {"dagProcessor": Component.DAG_PROCESSOR, "triggerer": Component.TRIGGERER}
# As in images/airflow/bin/heartbeat.py and wait_for_database.py.
SECRETS_FOLDER = "/opt/airflow/secrets"
SECRETS_MOUNT = {"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True}
# As in images/airflow/lib/git_sync_bundle.py.
DAGS_VARIABLE = "DAGS_URL"
# As in images/airflow/Dockerfile.
PYTHONPATH = "/opt/airflow/lib"

# Airflow's options with secrets, and where their values are. Each component has only those that it uses: the api-server
# signs sessions and checks the tokens of tasks, which the scheduler signs; both encrypt and decrypt.
DATABASE_OPTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
ASYNC_DATABASE_OPTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"
FERNET_OPTION = "AIRFLOW__CORE__FERNET_KEY"
JWT_OPTION = "AIRFLOW__API_AUTH__JWT_SECRET"
API_OPTION = "AIRFLOW__API__SECRET_KEY"
AIRFLOW_KEYS = {
    DATABASE_OPTION: {"name": secrets.DATABASE_SECRET, "key": secrets.CONNECTION},
    ASYNC_DATABASE_OPTION: {"name": secrets.DATABASE_SECRET, "key": secrets.ASYNC_CONNECTION},
    FERNET_OPTION: {"name": secrets.FERNET_SECRET, "key": secrets.FERNET_KEY},
    JWT_OPTION: {"name": secrets.JWT_SECRET, "key": "jwt-secret"},
    API_OPTION: {"name": secrets.API_SECRET, "key": "api-secret-key"},
}
SCHEDULER_KEYS = (DATABASE_OPTION, FERNET_OPTION, JWT_OPTION)
API_SERVER_KEYS = (*SCHEDULER_KEYS, ASYNC_DATABASE_OPTION, API_OPTION)
CONTROL_PLANE_SECTIONS = (*WAITING, "statsd", "pgbouncer", "migrateDatabaseJob", "databaseCleanup")

Values = dict[str, Any]


def checked_values(*stacks: str) -> Values:
    """Return the values of helm-values/ for `stacks`; later stacks override earlier ones.

    Raises:
        ValuesError: A file cannot be read or is invalid.
    """
    try:
        for file in (helm_values.SHARED, *map(helm_values.stack_file, stacks)):
            check(file, helm_values.read(file), schema())
        return helm_values.stack_values(*stacks)
    except DocumentError as error:
        raise ValuesError(str(error)) from None


def with_platform(values: Values, platform: Platform, tasks: TaskSettings) -> Values:
    """Return the values, completed with those that follow from the platform and the settings."""
    additions: Values = {}
    for part in (
        images(platform.images["airflow"]),
        secret_names(),
        priorities(platform.namespace),
        addresses(platform),
        environment(platform),
        {"config": platform.lineage.airflow_settings if platform.lineage else {}},
        files_of_components(platform),
        migration(platform),
        git_sync(platform.dags),
        dags_of_tasks(platform, values),
        certificates(platform, values),
        waiting(platform.images["airflow"], values, certificate_mounts(platform)),
        parallelism(tasks, values),
        {"podTemplate": helm_values.pod_template()},
    ):
        additions = helm_values.merged(additions, part)
    return helm_values.merged(values, additions)


def images(name: pulumi.Output[str]) -> Values:
    """Set the image of Airflow's components and of tasks that name no other image.

    A digest is part of the tag: `pod_template` has no value for it, and for `airflow` the chart would drop the tag.
    """
    image = {"repository": name.apply(repository), "tag": name.apply(tag)}
    return {"images": {"airflow": image, "pod_template": image}}


def repository(name: str) -> str:
    """Return an image's name without tag and digest."""
    return name.partition("@")[0].rpartition(":")[0]


def tag(name: str) -> str:
    """Return an image's tag, including the digest if it has one."""
    return name.removeprefix(f"{repository(name)}:")


def secret_names() -> Values:
    """Set the names of the Secrets; otherwise the chart generates new ones at each rendering."""
    return {
        "data": {"metadataSecretName": secrets.DATABASE_SECRET},
        "fernetKeySecretName": secrets.FERNET_SECRET,
        "apiSecretKeySecretName": secrets.API_SECRET,
        "jwtSecretName": secrets.JWT_SECRET,
        "pgbouncer": {
            "configSecretName": secrets.PGBOUNCER_SECRET,
            "metricsExporterSidecar": {"statsSecretName": secrets.PGBOUNCER_STATS_SECRET},
        },
    }


def priorities(namespace: pulumi.Output[str]) -> Values:
    """Set the priority classes: the control plane before tasks."""
    control_plane = {"priorityClassName": namespace.apply(lambda name: class_name(name, CONTROL_PLANE))}
    task = {"priorityClassName": namespace.apply(lambda name: class_name(name, TASK))}
    return {**dict.fromkeys(CONTROL_PLANE_SECTIONS, control_plane), "workers": task}


def addresses(platform: Platform) -> Values:
    """Set the namespace of tasks, and the addresses by which they find Airflow from there."""
    airflow = platform.namespace
    execution_api = pulumi.Output.format("http://airflow-api-server.{0}:{1}/execution/", airflow, API_SERVER_PORT)
    return {
        "config": {
            "core": {"execution_api_server_url": execution_api},
            "metrics": {"statsd_host": pulumi.Output.format("airflow-statsd.{0}", airflow)},
            "kubernetes_executor": {"namespace": platform.tasks_namespace},
        }
    }


def environment(platform: Platform) -> Values:
    """Set the environment variables of components; only those that use the object store or MLflow get its keys."""
    variables: Mapping[str, pulumi.Input[str]] = {
        **platform.environment,
        "DATA_BUCKET": platform.buckets.data,
        "ARTIFACTS_BUCKET": platform.buckets.artifacts,
        **({"BUCKET_PREFIX": platform.buckets.prefix} if platform.buckets.prefix else {}),
        "MLFLOW_TRACKING_URI": pulumi.Output.format("http://{0}.{1}:{2}", MLFLOW, platform.namespace, MLFLOW_PORT),
        **{image_variable(name): image for name, image in platform.images.items()},
        "SERVING_NAMESPACE": platform.namespace,
        "SERVING_SERVICE_ACCOUNT": Component.SERVING.service_account,
        "NODE_POOLS": json.dumps(platform.node_pools),
        "MODEL_APPROVAL": platform.model_approval,
        "WANDB_MODE": platform.wandb,
        "EXTERNAL_CONNECTIONS": json.dumps(platform.external_connections),
        "EXTERNAL_PREFIX": platform.external_prefix,
        **computing.VARIABLES,
    }
    keys = object_store_keys(platform.credentials_secret)
    login = from_secret(mlflow_server.TASKS_SECRET, (mlflow_users.USERNAME_VARIABLE, mlflow_users.PASSWORD_VARIABLE))
    features = from_secret(feature_store.SECRET, (feature_store.VARIABLE,))
    log_folder = platform.buckets.folder(platform.buckets.logs, LOGS_PREFIX)
    return {
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "config": {"logging": {"remote_base_log_folder": log_folder}},
        "apiServer": {"env": [*keys, *airflow_keys(*API_SERVER_KEYS), *pool_options(API_SERVER)]},
        "scheduler": {
            "env": [
                *airflow_keys(*SCHEDULER_KEYS),
                *pool_options(COMPONENT),
                {"name": "DAG_ACCOUNTS", "value": dag_accounts()},
            ]
        },
        "databaseCleanup": {"env": [*airflow_keys(DATABASE_OPTION), *pool_options(CLEANUP)]},
        "workers": {
            "env": [*keys, *login, *features, {"name": DAGS_VARIABLE, "value": dags_server.url(platform.namespace)}]
        },
    }


def image_variable(name: str) -> str:
    """Return the variable with the full name of an image, as in dags/ml_common/pods.py."""
    return f"{name.upper().replace('-', '_')}_IMAGE"


def dag_accounts() -> str:
    """Return the service account of each DAG as JSON, for images/airflow/lib/task_pods.py."""
    return json.dumps({dag_id: account_name(dag_id) for dag_id in declarations()})


def airflow_keys(*options: str) -> list[Values]:
    """Return variables with Airflow's own keys and the owner's login to the database."""
    return [{"name": option, "valueFrom": {"secretKeyRef": AIRFLOW_KEYS[option]}} for option in options]


def pool_options(pool: Pool) -> list[Values]:
    """Return the variables of a component's connection pool."""
    sizes = {"POOL_SIZE": pool.size, "MAX_OVERFLOW": pool.overflow}
    return [{"name": f"AIRFLOW__DATABASE__SQL_ALCHEMY_{name}", "value": str(size)} for name, size in sizes.items()]


def files_of_components(platform: Platform) -> Values:
    """Mount what the components that run authors' code need as files, not as variables.

    Airflow reads the files at its start. The environment of its processes, which authors' code inherits, has no secret.
    """
    read = f"cat {SECRETS_FOLDER}"
    connection = {"name": f"{DATABASE_OPTION}_CMD", "value": f"{read}/{secrets.CONNECTION}"}
    fernet = {"name": f"{FERNET_OPTION}_CMD", "value": f"{read}/{secrets.FERNET_KEY}"}
    credentials = {"name": "AWS_SHARED_CREDENTIALS_FILE", "value": f"{SECRETS_FOLDER}/{secrets.AWS_CREDENTIALS}"}
    object_store = [] if platform.credentials_secret is None else [credentials]
    # Airflow does not add the folder of the DAGs to the triggerer's path, where it imports callbacks of deadlines.
    path = {"name": "PYTHONPATH", "value": f"{PYTHONPATH}:{DAGS_LINK}/{platform.dags.folder}"}
    variables = {"dagProcessor": [], "triggerer": [fernet, *object_store, path]}
    return {
        section: {
            "env": [
                connection,
                *pool_options(COMPONENT),
                *variables[section],
                # These components call Airflow's API in their own process: a request that fails once fails again.
                {"name": "AIRFLOW__WORKERS__EXECUTION_API_RETRIES", "value": "1"},
            ],
            "extraVolumes": [{"name": "secrets", "secret": {"secretName": secrets.component_secret(component)}}],
            "extraVolumeMounts": [SECRETS_MOUNT],
        }
        for section, component in USERS_BY_SECTION.items()
    }


def migration(platform: Platform) -> Values:
    """Set the variables of the Job that prepares the database: images/airflow/bin/prepare_database.py."""
    administrator = {"AIRFLOW_ADMIN_USERNAME": "username", "AIRFLOW_ADMIN_PASSWORD": "password"}
    return {
        "migrateDatabaseJob": {
            "env": [
                *airflow_keys(DATABASE_OPTION, FERNET_OPTION),
                *(
                    {"name": name, "valueFrom": {"secretKeyRef": {"name": ADMIN_SECRET, "key": key}}}
                    for name, key in administrator.items()
                ),
                # In addition to airflow.cfg, so that a changed repository runs the Job again.
                {
                    "name": "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST",
                    "value": pulumi.Output.json_dumps([bundle(platform.dags)]),
                },
            ]
        }
    }


def object_store_keys(secret: pulumi.Output[str] | None) -> list[Values]:
    """Return the variables with the object store's keys; none if pods use the identity of their service account."""
    return [] if secret is None else from_secret(secret, OBJECT_STORE_KEYS)


def from_secret(secret: pulumi.Input[str], keys: Sequence[str]) -> list[Values]:
    """Return environment variables that take their values from a Secret."""
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in keys]


def git_sync(dags: DagSource) -> Values:
    """Set git-sync to follow the DAGs branch."""
    access: Mapping[str, Values] = {
        "none": {},
        "ssh": {"sshKeySecret": DAGS_SECRET, "knownHosts": dags.known_hosts},
        "token": {"credentialsSecret": DAGS_SECRET},
    }
    source = {"repo": dags.repository, "branch": dags.branch, "ref": dags.branch, "subPath": dags.folder}
    return {
        "dags": {"gitSync": source | access[dags.credentials]},
        "dagProcessor": {"dagBundleConfigList": [bundle(dags)]},
    }


def dags_of_tasks(platform: Platform, values: Values) -> Values:
    """Set the container that serves the DAGs to tasks."""
    security_context = values["securityContexts"]["containers"]
    container = dags_server.container(platform.images["airflow"], platform.dags, security_context)
    return {"dagProcessor": {"extraContainers": [container]}}


def bundle(dags: DagSource) -> Values:
    """Return the bundle of the DAGs; images/airflow/lib/git_sync_bundle.py shows the commit in the user interface."""
    return {
        "name": "dags-folder",
        "classpath": "git_sync_bundle.GitSyncBundle",
        "kwargs": {"repository": dags.repository},
    }


def parallelism(tasks: TaskSettings, values: Values) -> Values:
    """Limit running tasks to the pod quota; further tasks wait where no timeout applies."""
    schedulers = values["scheduler"].get("replicas", 1)
    return {"config": {"core": {"parallelism": max(1, tasks.max_pods // schedulers)}}}


def certificates(platform: Platform, values: Values) -> Values:
    """Mount the certificate authorities of the database server into all pods of the control plane and of tasks."""
    mounts = certificate_mounts(platform)
    volumes = [{"name": mount["name"], "configMap": {"name": DATABASE_CA}} for mount in mounts]
    return {
        "volumes": [*values["volumes"], *volumes],
        "volumeMounts": [*values["volumeMounts"], *mounts],
        "workers": {"extraVolumes": volumes, "extraVolumeMounts": mounts},
    }


def certificate_mounts(platform: Platform) -> list[Values]:
    """Return the mount of the certificate authorities; none if connections to the database are not encrypted."""
    mount = {"name": DATABASE_CA, "mountPath": DATABASE_CA_FOLDER, "readOnly": True}
    return [mount] if platform.airflow_database.authorities else []


def waiting(image: pulumi.Output[str], values: Values, mounts: list[Values]) -> Values:
    """Make each component wait for the database migration; see images/airflow/bin/wait_for_database.py."""
    container: Values = {
        "name": "wait-for-database",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/opt/airflow/bin/wait_for_database.py"],
        "volumeMounts": [*mounts, SECRETS_MOUNT],
        "securityContext": values["securityContexts"]["containers"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }

    connection = {
        "secretName": secrets.DATABASE_SECRET,
        "items": [{"key": secrets.CONNECTION, "path": secrets.CONNECTION}],
    }
    # The other components mount their own Secret themselves.
    volumes = {"extraVolumes": [{"name": SECRETS_MOUNT["name"], "secret": connection}]}
    return {
        section: {"extraInitContainers": [container], **({} if section in USERS_BY_SECTION else volumes)}
        for section in WAITING
    }
