"""The ZenML server, in the environment `.venv-zenml`, and its stack for the tasks of Airflow.

It is one of the services only after `make up ZENML=1`.
"""

import json
import subprocess

from infra import mlflow_users
from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops import environments
from ops.airflow_api import AirflowApi
from ops.laptop import mlflow
from ops.laptop.home import Home
from ops.laptop.object_store import BUCKETS, client_environment
from ops.laptop.processes import Service, answers
from ops.loopback import LOOPBACK
from ops.process_environment import SYSTEM, allowed

ADMIN = "admin"
NAME = "zenml"
PYTHON = environments.interpreter("zenml")
REGISTER_STACK = REPOSITORY / "images" / "zenml" / "register_stack.py"
# The stack, and the Airflow connection of the DAGs.
STACK = "airflow"
CONNECTION = "zenml"


def services(home: Home, ports: dict[str, int]) -> tuple[Service, ...]:
    """Return the ZenML server if this home has one; it reads logs and pictures of artifacts from S3."""
    if not home.zenml.exists():
        return ()
    port = ports[NAME]
    program = ("-m", "uvicorn", "zenml.zen_server.zen_server_api:app", "--host", LOOPBACK, "--port", str(port))
    server = Service(
        name=NAME,
        command=(str(PYTHON), "-I", *program, "--no-server-header"),
        environment={
            **client_environment(home, ports["s3"]),
            "HOME": str(home.zenml),
            "ZENML_CONFIG_PATH": str(home.zenml),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_LOGGING_COLORS_DISABLED": "true",
            "ZENML_STORE_URL": f"sqlite:///{home.zenml}/zenml.db",
            "ZENML_SECRETS_STORE_TYPE": "sql",
            "ZENML_SECRETS_STORE_ENCRYPTION_KEY": home.secrets.zenml_encryption_key,
            "ZENML_SERVER_AUTO_ACTIVATE": "true",
            "ZENML_SERVER_DISPLAY_ANNOUNCEMENTS": "false",
            "ZENML_SERVER_JWT_SECRET_KEY": home.secrets.zenml_jwt,
            "ZENML_DEFAULT_USER_NAME": ADMIN,
            "ZENML_DEFAULT_USER_PASSWORD": home.secrets.zenml_admin,
        },
        port=port,
        healthy=lambda: answers(f"{url(ports)}/health"),
    )
    return (server,)


def check(home: Home) -> None:
    """Check that the environment of this home's ZenML server exists.

    Raises:
        OperationError: It does not.
    """
    if home.zenml.exists() and not PYTHON.exists():
        raise OperationError(f"{home.root} has a ZenML server, whose environment is missing: run `make up ZENML=1`")


def url(ports: dict[str, int]) -> str:
    """Return the address of the API and the dashboard."""
    return f"http://{LOOPBACK}:{ports[NAME]}"


def connect(home: Home, ports: dict[str, int], api: AirflowApi) -> None:
    """Register the stack, and give Airflow a new API key.

    Raises:
        OperationError: The stack could not be registered.
    """
    settings = {
        "url": url(ports),
        "password": home.secrets.zenml_admin,
        "stack": STACK,
        "artifacts": f"s3://{BUCKETS['artifacts']}/zenml",
        "mlflow": mlflow.url(ports),
        "mlflow_user": mlflow_users.TASKS,
        "mlflow_password": home.secrets.mlflow_tasks,
    }
    done = subprocess.run(
        [PYTHON, "-I", REGISTER_STACK],
        input=json.dumps(settings),
        env=allowed(SYSTEM),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        log = home.logs / "zenml-stack.log"
        log.write_text(done.stderr)
        raise OperationError(f"the stack could not be registered with ZenML: see {log}")
    api.set_connection(
        CONNECTION,
        {
            "conn_type": "http",
            "host": url(ports),
            "password": json.loads(done.stdout)["api_key"],
            "extra": json.dumps({"stack": STACK}),
        },
    )
