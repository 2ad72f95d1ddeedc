"""The MLflow tracking server and model registry, in the environment `.venv-mlflow`."""

from infra.laptop.home import REPOSITORY, Home
from infra.laptop.object_store import BUCKETS, client_environment
from infra.laptop.processes import Service, answers
from infra.loopback import LOOPBACK

PROGRAM = REPOSITORY / ".venv-mlflow" / "bin" / "mlflow"


def service(home: Home, ports: dict[str, int]) -> Service:
    """Return the MLflow server; its clients read and write artifacts in S3 themselves."""
    port = ports["mlflow"]
    command = (
        str(PROGRAM),
        "server",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--workers",
        "1",
        "--no-serve-artifacts",
    )
    return Service(
        name="mlflow",
        command=command,
        environment={
            **client_environment(home, ports["s3"]),
            "MLFLOW_BACKEND_STORE_URI": (
                f"postgresql+psycopg2://mlflow:{home.secrets.mlflow_database}@{LOOPBACK}:{ports['postgres']}/mlflow"
            ),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKETS['artifacts']}/mlflow",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten worker processes for jobs that nobody sends
            "DO_NOT_TRACK": "true",
        },
        port=port,
        healthy=lambda: answers(f"http://{LOOPBACK}:{port}/health"),
    )


def url(ports: dict[str, int]) -> str:
    """Return the address of its API and user interface."""
    return f"http://{LOOPBACK}:{ports['mlflow']}"
