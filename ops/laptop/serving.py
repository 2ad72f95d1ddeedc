"""The model server as a process, replaced without downtime when another model is rolled out."""

import sys
from dataclasses import replace

import httpx

from infra import computing, mlflow_users
from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.laptop import mlflow, processes
from ops.laptop.home import Home
from ops.laptop.object_store import BUCKETS, client_environment
from ops.laptop.processes import Service
from ops.loopback import LOOPBACK

MODEL = "image_classifier"
PROGRAM = REPOSITORY / "images" / "serving" / "serving.py"
NEXT = "serving-next"
START_SECONDS = 90.0
# MLflow's status codes for an unknown model and an unknown alias.
NO_CHAMPION = (404, 400)


def url(ports: dict[str, int]) -> str:
    """Return the address of the endpoint."""
    return f"http://{LOOPBACK}:{ports['serving']}"


def service(home: Home, ports: dict[str, int], version: str) -> Service:
    """Return the server of one version of the model."""
    port = ports["serving"]
    return Service(
        name="serving",
        command=(sys.executable, str(PROGRAM)),
        environment={
            **client_environment(home, ports["s3"]),
            **computing.VARIABLES,
            "MLFLOW_TRACKING_URI": mlflow.url(ports),
            **mlflow.login(home, mlflow_users.SERVING),
            "ARTIFACTS_BUCKET": BUCKETS["artifacts"],
            "MODEL_VERSION": version,
            "PYTHONPATH": str(REPOSITORY / "dags"),
            "SERVING_HOST": LOOPBACK,
            "SERVING_PORT": str(port),
        },
        port=port,
        healthy=lambda: served_version(ports) == version,
    )


def roll_out(home: Home, ports: dict[str, int], version: str) -> None:
    """Serve `version`: the new process shares the port and answers before the old one is stopped.

    Raises:
        OperationError: The new process did not answer; the old one continues to serve.
    """
    wanted, port = service(home, ports, version), ports["serving"]
    processes.stop(home, NEXT)
    if processes.is_running(home, wanted):
        return
    successor = processes.spawn(home, wanted, record_as=NEXT)
    try:
        # The old process answers on the same port and may serve the same version.
        answering = replace(wanted, healthy=lambda: successor.listens_on(port) and wanted.healthy())
        processes.wait_for(home, answering, successor, START_SECONDS)
    except BaseException:
        processes.stop(home, NEXT)
        raise
    predecessor = processes.records(home).get(wanted.name)
    processes.rename(home, successor, wanted.name)
    if predecessor:
        processes.end(predecessor)


def champion(home: Home, ports: dict[str, int]) -> str | None:
    """Return the version with the alias `champion` in the model registry, or None if there is none.

    Raises:
        OperationError: The registry returned an error.
    """
    answer = httpx.get(
        f"{mlflow.url(ports)}/api/2.0/mlflow/registered-models/alias",
        params={"name": MODEL, "alias": "champion"},
        auth=(mlflow_users.SERVING, home.secrets.mlflow_serving),
        timeout=10,
        trust_env=False,
    )
    if answer.status_code in NO_CHAMPION:
        return None
    if answer.status_code != 200:
        raise OperationError(f"MLflow answered {answer.status_code} to the request for the champion: {answer.text}")
    return str(answer.json()["model_version"]["version"])


def served_version(ports: dict[str, int]) -> str | None:
    """Return the version that the endpoint serves, or None if it does not answer."""
    try:
        return str(
            httpx.get(f"{url(ports)}/healthz", timeout=processes.ANSWER_SECONDS, trust_env=False).json()["version"]
        )
    except (httpx.TransportError, ValueError, KeyError):
        return None
