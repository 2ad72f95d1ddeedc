"""The twin of `hostile`: asks for the same kinds of things, as far as they are its own."""

import os

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

OWN_SECRET = "object-store"


@dag(dag_id="honest", schedule=None, catchup=False, default_args={"retries": 0})
def honest() -> None:
    """Wire the one task."""
    key = k8s.V1SecretKeySelector(name=OWN_SECRET, key="AWS_ACCESS_KEY_ID")
    container = k8s.V1Container(
        name="base",
        env=[k8s.V1EnvVar("OWN", value_from=k8s.V1EnvVarSource(secret_key_ref=key))],
        env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=OWN_SECRET))],
    )
    volumes = [
        k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="1Mi")),
        k8s.V1Volume(name="own", secret=k8s.V1SecretVolumeSource(secret_name=OWN_SECRET)),
    ]
    pod = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(labels={"team": "vision"}, annotations={"team": "vision"}),
        spec=k8s.V1PodSpec(containers=[container], volumes=volumes, service_account_name="airflow-task"),
    )

    @task(executor_config={"pod_override": pod})
    def ask() -> dict[str, object]:
        import boto3
        import httpx
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        boto3.client("s3").put_object(Bucket=os.environ["DATA_BUCKET"], Key="honest/x", Body=b"")
        login = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
        address = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
        return {
            "variable": bool(os.environ["OWN"]),
            "mlflow": httpx.get(address, auth=login, timeout=30).status_code,
            "features": PostgresHook("features").get_first("SELECT current_user")[0],
        }

    ask()


honest()
