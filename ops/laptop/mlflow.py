"""The MLflow tracking server and model registry, in the environment `.venv-mlflow`."""

from infra import mlflow_users
from infra.documents import REPOSITORY
from ops.laptop.home import Home
from ops.laptop.object_store import BUCKETS, client_environment
from ops.laptop.processes import Service, answers
from ops.loopback import LOOPBACK

PYTHON = REPOSITORY / ".venv-mlflow" / "bin" / "python"
PROGRAM = REPOSITORY / "images" / "mlflow" / "mlflow_server.py"


def service(home: Home, ports: dict[str, int]) -> Service:
    """Return the MLflow server; its clients access artifacts in S3 directly."""
    port = ports["mlflow"]
    return Service(
        name="mlflow",
        command=(str(PYTHON), str(PROGRAM)),
        environment={
            **client_environment(home, ports["s3"]),
            **mlflow_users.server_environment(passwords(home)),
            "MLFLOW_HOST": LOOPBACK,
            "MLFLOW_PORT": str(port),
            "MLFLOW_SERVER_ALLOWED_HOSTS": f"{LOOPBACK}:{port},localhost:{port}",
            "MLFLOW_BACKEND_STORE_URI": (
                f"postgresql+psycopg2://mlflow:{home.secrets.mlflow_database}@{LOOPBACK}:{ports['postgres']}/mlflow"
            ),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKETS['artifacts']}/mlflow",
            "DO_NOT_TRACK": "true",
            # MLflow creates a lock file there, with a name that other users of the machine could guess.
            "TMPDIR": str(home.mlflow),
        },
        port=port,
        healthy=lambda: answers(f"http://{LOOPBACK}:{port}/health"),
    )


def url(ports: dict[str, int]) -> str:
    """Return the address of MLflow's API and user interface."""
    return f"http://{LOOPBACK}:{ports['mlflow']}"


def passwords(home: Home) -> dict[str, str]:
    """Return the passwords of MLflow's users."""
    return {
        mlflow_users.ADMIN: home.secrets.mlflow_admin,
        mlflow_users.TASKS: home.secrets.mlflow_tasks,
        mlflow_users.SERVING: home.secrets.mlflow_serving,
    }


def login(home: Home, user: str) -> dict[str, str]:
    """Return the environment variables with which a client logs in as a user."""
    return mlflow_users.client_environment(user, passwords(home)[user])
