"""The chart's values: those of helm-values/, and the names of the resources that the program creates."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from infra import computing, helm_values, mlflow_server, mlflow_users
from infra.airflow import secrets
from infra.airflow.chart import schema
from infra.airflow.priorities import CONTROL_PLANE, TASK, class_name
from infra.airflow.validation import ValuesError, check
from infra.airflow_names import API_SERVER_PORT, DAGS_SECRET, MLFLOW, MLFLOW_PORT
from infra.airflow_platform import LOGS_PREFIX, Component, DagSource, Platform
from infra.dag_declarations import account_name, declarations
from infra.documents import DocumentError
from infra.settings import TaskSettings

# The Secret that `make dags-key` creates for a private repository.
OBJECT_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# Each component waits for the database itself, so that they can start in any order.
WAITING = ("scheduler", "apiServer", "dagProcessor", "triggerer")
CONTROL_PLANE_SECTIONS = (*WAITING, "statsd", "pgbouncer", "migrateDatabaseJob")

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
        git_sync(platform.dags),
        waiting(platform.images["airflow"], values),
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
        "GPU_NODES": str(platform.has_gpus).lower(),
        **computing.VARIABLES,
    }
    keys = object_store_keys(platform.credentials_secret)
    login = from_secret(mlflow_server.TASKS_SECRET, (mlflow_users.USERNAME_VARIABLE, mlflow_users.PASSWORD_VARIABLE))
    log_folder = platform.buckets.folder(platform.buckets.logs, LOGS_PREFIX)
    return {
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "config": {"logging": {"remote_base_log_folder": log_folder}},
        "apiServer": {"env": [*keys, async_connection()]},
        "triggerer": {"env": keys},
        "scheduler": {"env": [{"name": "DAG_ACCOUNTS", "value": dag_accounts()}]},
        "workers": {"env": [*keys, *login]},
    }


def image_variable(name: str) -> str:
    """Return the variable with the full name of an image, as in dags/ml_common/pods.py."""
    return f"{name.upper().replace('-', '_')}_IMAGE"


def dag_accounts() -> str:
    """Return the service account of each DAG as JSON, for images/airflow/lib/task_pods.py."""
    return json.dumps({dag_id: account_name(dag_id) for dag_id in declarations()})


def async_connection() -> Values:
    """Return the variable with the database's address for the API server's asynchronous requests."""
    source = {"name": secrets.DATABASE_SECRET, "key": secrets.ASYNC_CONNECTION}
    return {"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "valueFrom": {"secretKeyRef": source}}


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
    # images/airflow/lib/git_sync_bundle.py shows the commit in the user interface.
    bundle = {
        "name": "dags-folder",
        "classpath": "git_sync_bundle.GitSyncBundle",
        "kwargs": {"repository": dags.repository},
    }
    return {
        "dags": {"gitSync": source | access[dags.credentials]},
        "dagProcessor": {"dagBundleConfigList": [bundle]},
    }


def parallelism(tasks: TaskSettings, values: Values) -> Values:
    """Limit running tasks to the pod quota; further tasks wait where no timeout applies."""
    schedulers = values["scheduler"].get("replicas", 1)
    return {"config": {"core": {"parallelism": max(1, tasks.max_pods // schedulers)}}}


def waiting(image: pulumi.Output[str], values: Values) -> Values:
    """Make each component wait for the database migration; see images/airflow/bin/wait_for_database.py."""
    container = {
        "name": "wait-for-database",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/opt/airflow/bin/wait_for_database.py"],
        "env": [
            {
                "name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
                "valueFrom": {"secretKeyRef": {"name": secrets.DATABASE_SECRET, "key": "connection"}},
            }
        ],
        "securityContext": values["securityContexts"]["containers"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    }
    return {section: {"extraInitContainers": [container]} for section in WAITING}
