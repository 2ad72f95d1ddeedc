"""Airflow's four components, with the clusters' settings and a few overrides for the laptop."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version

import httpx

from infra import computing, feature_store, mlflow_users
from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.helm_values import airflow_settings
from infra.lineage import Lineage
from ops.laptop import mlflow
from ops.laptop.home import Home, write_atomically
from ops.laptop.object_store import BUCKETS, client_environment
from ops.laptop.processes import Service, answers
from ops.loopback import LOOPBACK
from ops.process_environment import SYSTEM, allowed

ADMIN = "admin"
DAGS = REPOSITORY / "dags"
PLUGINS = REPOSITORY / "images" / "airflow" / "plugins"
PROGRAM = (sys.executable, "-m", "airflow")
PREPARE_DATABASE = REPOSITORY / "images" / "airflow" / "bin" / "prepare_database.py"
OPS = (sys.executable, "-m", "ops")
# Libraries that tasks take seconds of CPU time to import. Modules of the DAGs are not among them: each task imports
# their current version.
PRELOADED = (
    "airflow.executors.local_executor",
    "airflow.sdk.execution_time.task_runner",
    "boto3",
    "mlflow.pyfunc",
    "sklearn.metrics",
    "torchvision.models",
    "torchvision.transforms.v2",
)
# The variable of OpenLineage's clients for the address of the server.
LINEAGE_URL = "OPENLINEAGE_URL"
LINEAGE_NAMESPACE = "laptop"
SODA_PYTHON = REPOSITORY / ".venv-soda" / "bin" / "python"


def url(ports: dict[str, int]) -> str:
    """Return the address of the API and the user interface."""
    return f"http://{LOOPBACK}:{ports['api-server']}"


def overrides(home: Home, ports: dict[str, int]) -> dict[str, dict[str, str]]:
    """Return the overrides of the clusters' settings: the executor, addresses, folders and generated secrets.

    Lineage is off unless the user sets `OPENLINEAGE_URL`.
    """
    database = f"airflow:{home.secrets.airflow_database}@{LOOPBACK}:{ports['postgres']}/airflow"
    server = os.environ.get(LINEAGE_URL)
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": str(max(2, os.cpu_count() or 2)),
            "dags_folder": str(DAGS),
            "plugins_folder": str(PLUGINS),
            "execution_api_server_url": f"{url(ports)}/execution/",
            "mp_forkserver_preload": ",".join(PRELOADED),
            "fernet_key": home.secrets.fernet_key,
        },
        "database": {"sql_alchemy_conn": f"postgresql+psycopg2://{database}"},
        "api": {
            "host": LOOPBACK,
            "port": str(ports["api-server"]),
            "base_url": url(ports),
            "secret_key": home.secrets.api,
        },
        "api_auth": {"jwt_secret": home.secrets.jwt},
        # Modules that DAG files import are edited here without a commit, and Airflow only looks at the DAG files.
        "dag_processor": {"parsing_processes": "1", "min_file_process_interval": "60"},
        "scheduler": {
            # macOS' libraries do not survive a fork.
            **({"mp_start_method": "forkserver"} if sys.platform == "linux" else {}),
            "scheduler_health_check_server_host": LOOPBACK,
            "scheduler_health_check_server_port": str(ports["scheduler"]),
        },
        "logging": {
            "base_log_folder": str(home.logs / "airflow"),
            "remote_base_log_folder": f"s3://{BUCKETS['logs']}/airflow",
            "json_logs": "False",
        },
        **(Lineage(server, LINEAGE_NAMESPACE).airflow_settings if server else {}),
    }


def environment(home: Home, ports: dict[str, int]) -> dict[str, str]:
    """Return the environment of every Airflow process and every task."""
    changes = overrides(home, ports)
    settings = airflow_settings()
    features = f"features:{home.secrets.features_database}@{LOOPBACK}:{ports['postgres']}/features"
    variables = {
        f"AIRFLOW__{section.upper()}__{option.upper()}": value
        for section in settings.keys() | changes.keys()
        for option, value in (settings.get(section, {}) | changes.get(section, {})).items()
    }
    return {
        **variables,
        **client_environment(home, ports["s3"]),
        "AIRFLOW_HOME": str(home.airflow),
        **computing.VARIABLES,
        feature_store.VARIABLE: feature_store.connection(f"postgresql://{features}"),
        "DATA_BUCKET": BUCKETS["data"],
        "ARTIFACTS_BUCKET": BUCKETS["artifacts"],
        "MLFLOW_TRACKING_URI": mlflow.url(ports),
        **mlflow.login(home, mlflow_users.TASKS),
        "SODA_PYTHON": str(SODA_PYTHON),
        "WANDB_MODE": os.environ.get("WANDB_MODE", "disabled"),
        "MODEL_APPROVAL": os.environ.get("MODEL_APPROVAL", "none"),
        "SERVING_ROLLOUT_COMMAND": shlex.join([*OPS, "roll-out", "--home", str(home.root)]),
    }


def services(home: Home, ports: dict[str, int]) -> tuple[Service, ...]:
    """Return the api-server, scheduler, dag-processor and triggerer.

    Logs are read from disk and from S3, so the components' log servers stay off.
    """
    variables = environment(home, ports)
    scheduler_health = f"http://{LOOPBACK}:{ports['scheduler']}/health"

    def component(
        name: str, *arguments: str, healthy: str | None = None, port: int | None = None, **further: str
    ) -> Service:
        return Service(
            name=name,
            command=(*PROGRAM, name, *arguments),
            environment=variables | further,
            port=port,
            healthy=(lambda: answers(healthy)) if healthy else (lambda: _reports_healthy(ports, name)),
        )

    return (
        component("api-server", healthy=f"{url(ports)}/api/v2/version", port=ports["api-server"]),
        component("scheduler", "--skip-serve-logs", healthy=scheduler_health, port=ports["scheduler"]),
        component("dag-processor"),
        # Airflow does not add the folder of the DAGs to the triggerer's path, where it imports callbacks of deadlines.
        component("triggerer", "--skip-serve-logs", PYTHONPATH=str(DAGS)),
    )


def prepare_database(home: Home, ports: dict[str, int]) -> None:
    """Migrate the metadata database and create the administrator, unless these versions have already done so.

    Raises:
        OperationError: The migration or the user's creation failed.
    """
    marker = home.airflow / "database.json"
    done = {name: version(name) for name in ("apache-airflow", "apache-airflow-providers-fab")}
    done["admin"] = hashlib.sha256(home.secrets.admin.encode()).hexdigest()
    if marker.is_file() and marker.read_bytes() == json.dumps(done).encode():
        return
    result = subprocess.run(
        [sys.executable, PREPARE_DATABASE],
        env=allowed(SYSTEM)
        | environment(home, ports)
        | {"AIRFLOW_ADMIN_USERNAME": ADMIN, "AIRFLOW_ADMIN_PASSWORD": home.secrets.admin},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (home.logs / "migrate.log").write_text(result.stdout)
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-10:])
        raise OperationError(
            f"the metadata database could not be migrated; the last lines of {home.logs / 'migrate.log'}:\n{tail}"
        )
    write_atomically(marker, json.dumps(done))


def _reports_healthy(ports: dict[str, int], component: str) -> bool:
    try:
        health = httpx.get(f"{url(ports)}/api/v2/monitor/health", timeout=5, trust_env=False).json()
    except (httpx.TransportError, ValueError):
        return False
    return bool(health.get(component.replace("-", "_"), {}).get("status") == "healthy")
