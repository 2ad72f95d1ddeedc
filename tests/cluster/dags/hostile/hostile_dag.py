"""A DAG whose author wants more than is theirs: each task tries one thing that must be denied."""

import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

SECONDS = 5
DATABASE_SECRET = "airflow-database"
FEATURES = "AIRFLOW_CONN_FEATURES"


def container(**fields: Any) -> k8s.V1Pod:
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", **fields)]))


def spec(**fields: Any) -> k8s.V1Pod:
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")], **fields))


def metadata(**fields: Any) -> k8s.V1Pod:
    return k8s.V1Pod(metadata=k8s.V1ObjectMeta(**fields))


def volume(**source: Any) -> k8s.V1Pod:
    return spec(volumes=[k8s.V1Volume(name="stolen", **source)])


def projected(**source: Any) -> k8s.V1Pod:
    projection = k8s.V1VolumeProjection(**source)
    return volume(projected=k8s.V1ProjectedVolumeSource(sources=[projection]))


SECRET_KEY = k8s.V1SecretKeySelector(name=DATABASE_SECRET, key="connection")
PODS = {
    "the_schedulers_account": spec(service_account_name="airflow-scheduler"),
    "another_dags_account": spec(service_account_name="dag-image-classifier"),
    "another_dags_identity": metadata(
        annotations={"dag_id": "image_classifier"}, labels={"dag_id": "image_classifier"}
    ),
    "a_secret_as_variable": container(
        env=[k8s.V1EnvVar("STOLEN", value_from=k8s.V1EnvVarSource(secret_key_ref=SECRET_KEY))]
    ),
    "a_secret_as_variables": container(
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=DATABASE_SECRET))]
    ),
    "a_secret_as_volume": volume(secret=k8s.V1SecretVolumeSource(secret_name=DATABASE_SECRET)),
    "a_secret_as_projected_volume": projected(secret=k8s.V1SecretProjection(name=DATABASE_SECRET)),
    "a_kubernetes_token": projected(service_account_token=k8s.V1ServiceAccountTokenProjection(path="token")),
    "a_folder_of_the_node": volume(host_path=k8s.V1HostPathVolumeSource(path="/")),
    "airflows_namespace": metadata(namespace="airflow"),
    "the_schedulers_label": metadata(labels={"component": "scheduler"}),
    "the_schedulers_priority": spec(priority_class_name="airflow-control-plane"),
}


@dag(dag_id="hostile", schedule=None, catchup=False, default_args={"retries": 2}, max_active_tasks=32)
def hostile() -> None:
    """Wire the attempts."""
    for name, pod in PODS.items():

        @task(task_id=name, executor_config={"pod_override": pod})
        def run() -> None:
            """Do nothing: the pod is what is asked for."""

        run()

    @task
    def variables() -> list[str]:
        words = ("SQL_ALCHEMY_CONN", "FERNET", "JWT", "SECRET_KEY")
        found = {name: value for name, value in os.environ.items() if any(word in name for word in words)}
        return sorted(name for name, value in found.items() if "AWS" not in name and "not-allowed" not in value)

    @task
    def databases() -> dict[str, str]:
        import psycopg

        with psycopg.connect(os.environ[FEATURES]) as connection:
            names = [name for (name,) in connection.execute("SELECT datname FROM pg_database")]
        return {name: log_in(dbname=name) for name in names}

    @task
    def other_users() -> dict[str, str]:
        users = ("airflow", "airflow-triggerer", "mlflow", "postgres")
        return {user: log_in(user=user, dbname="features") for user in users}

    @task
    def metadata_of_the_node() -> str:
        return connect("169.254.169.254", 80)

    @task
    def kubernetes_api() -> str:
        address = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
        return request(f"https://{address}/api/v1/namespaces/airflow/secrets")

    @task
    def model_registry() -> str:
        return request(f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1")

    for attempt in (variables, databases, other_users, metadata_of_the_node, kubernetes_api, model_registry):
        attempt()


def log_in(**changes: Any) -> str:
    """Return how a login to the database server ends, with the task's own connection but for these changes."""
    import psycopg

    try:
        psycopg.connect(os.environ[FEATURES], **changes).close()
    except psycopg.OperationalError as error:
        return str(error).partition("FATAL:  ")[2]
    return "connected"


def connect(host: str, port: int) -> str:
    """Return how a connection fails."""
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError as error:
        return str(error)
    return "connected"


def request(address: str) -> str:
    """Return the status of an answer, and who is meant if it names a user."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(address, timeout=SECONDS, context=context) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        body = error.read().decode()
        message = json.loads(body).get("message", "") if body.startswith("{") else ""
        return " ".join((str(error.code), message)).strip()


hostile()
