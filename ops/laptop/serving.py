"""Model servers as processes, replaced without downtime when another version is rolled out."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import httpx

from infra import computing, feature_store, mlflow_users
from infra.dag_declarations import declarations, model_servers
from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.laptop import mlflow, processes
from ops.laptop.home import Home
from ops.laptop.object_store import BUCKETS, client_environment
from ops.laptop.processes import Service
from ops.loopback import LOOPBACK

NEXT = "next-"
PROGRAM = REPOSITORY / "images" / "serving" / "serving.py"
START_SECONDS = 90.0
# MLflow's status codes for an unknown model and an unknown alias.
NO_CHAMPION = (404, 400)


@dataclass(frozen=True)
class Served:
    """What a DAG serves.

    Attributes:
        model: The name of the registered model.
        process: The name of the process, of its log and of its port.
        reads_features: Whether the server reads the feature store.
    """

    model: str
    process: str
    reads_features: bool = False

    @classmethod
    def named(cls, name: str, model: str) -> "Served":
        """Return what a DAG serves under a name, `serves` in its `dag.yaml`."""
        if model == DEMO.model:
            return DEMO
        readers = {server.name for server in model_servers(declarations()) if server.reads_features}
        return cls(model, f"{DEMO.process}-{name}", name in readers)

    @property
    def successor(self) -> str:
        """The name of the process of another version until it takes over."""
        return f"{NEXT}{self.process}"


NO_SECRETS: Mapping[str, str] = {}
# What `make up` trains and serves.
DEMO = Served("image_classifier", "serving")


def url(ports: dict[str, int], served: Served = DEMO) -> str:
    """Return the address of the endpoint."""
    return f"http://{LOOPBACK}:{ports[served.process]}"


def service(
    home: Home, ports: dict[str, int], version: str, served: Served = DEMO, secrets: Mapping[str, str] = NO_SECRETS
) -> Service:
    """Return the server of one version of a model; `secrets` are variables of what the DAG passes it."""
    port = ports[served.process]
    database = {feature_store.SERVERS_VARIABLE: _features(home, ports)} if served.reads_features else {}
    return Service(
        name=served.process,
        command=(sys.executable, str(PROGRAM)),
        environment={
            **client_environment(home, ports["s3"]),
            **computing.VARIABLES,
            "MLFLOW_TRACKING_URI": mlflow.url(ports),
            **mlflow.login(home, mlflow_users.SERVING),
            "ARTIFACTS_BUCKET": BUCKETS["artifacts"],
            "MODEL_NAME": served.model,
            "MODEL_VERSION": version,
            "SERVING_HOST": LOOPBACK,
            "SERVING_PORT": str(port),
            **database,
            **secrets,
        },
        port=port,
        healthy=lambda: served_version(ports, served) == version,
    )


def roll_out(
    home: Home, ports: dict[str, int], version: str, served: Served = DEMO, secrets: Mapping[str, str] = NO_SECRETS
) -> None:
    """Serve a version of a model: the new process shares the port and answers before the old one is stopped.

    Raises:
        OperationError: The new process did not answer; the old one continues to serve.
    """
    wanted, port = service(home, ports, version, served, secrets), ports[served.process]
    processes.stop(home, served.successor)
    if processes.is_running(home, wanted):
        return
    successor = processes.spawn(home, wanted, record_as=served.successor)
    try:
        # The old process answers on the same port and may serve the same version.
        answering = replace(wanted, healthy=lambda: successor.listens_on(port) and wanted.healthy())
        processes.wait_for(home, answering, successor, START_SECONDS)
    except BaseException:
        processes.stop(home, served.successor)
        raise
    predecessor = processes.records(home).get(wanted.name)
    processes.rename(home, successor, wanted.name)
    if predecessor:
        processes.end(predecessor)


def names(home: Home) -> list[str]:
    """Return the names of the model servers that were started and not stopped, successors last."""
    found = [name for name in processes.records(home) if name.removeprefix(NEXT).startswith(DEMO.process)]
    return sorted(found, key=lambda name: name.startswith(NEXT))


def known(home: Home, ports: dict[str, int]) -> list[Service]:
    """Return the model servers that were started and not stopped, for their status."""
    found = [Served("", name) for name in names(home) if name in ports]
    return [
        Service(served.process, (), {}, ports[served.process], partial(_answers, ports, served)) for served in found
    ]


def champion(home: Home, ports: dict[str, int]) -> str | None:
    """Return the version of the demo's model with the alias `champion`, or None if there is none.

    Raises:
        OperationError: The registry returned an error.
    """
    answer = httpx.get(
        f"{mlflow.url(ports)}/api/2.0/mlflow/registered-models/alias",
        params={"name": DEMO.model, "alias": "champion"},
        auth=(mlflow_users.SERVING, home.secrets.mlflow_serving),
        timeout=10,
        trust_env=False,
    )
    if answer.status_code in NO_CHAMPION:
        return None
    if answer.status_code != 200:
        raise OperationError(f"MLflow answered {answer.status_code} to the request for the champion: {answer.text}")
    return str(answer.json()["model_version"]["version"])


def served_version(ports: dict[str, int], served: Served = DEMO) -> str | None:
    """Return the version that the endpoint serves, or None if it does not answer."""
    try:
        answer = httpx.get(f"{url(ports, served)}/healthz", timeout=processes.ANSWER_SECONDS, trust_env=False)
        return str(answer.json()["version"])
    except (httpx.TransportError, ValueError, KeyError):
        return None


def _features(home: Home, ports: dict[str, int]) -> str:
    user = feature_store.server_user(feature_store.DATABASE)
    login = f"{user}:{home.secrets.features_serving}"
    return feature_store.connection(f"postgresql://{login}@{LOOPBACK}:{ports['postgres']}/{feature_store.DATABASE}")


def _answers(ports: dict[str, int], served: Served) -> bool:
    return served_version(ports, served) is not None
