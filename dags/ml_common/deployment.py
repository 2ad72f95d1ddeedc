"""Deploy a model version: on Kubernetes, or by a command where serving is a local process."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.image_names import full_name
from ml_common.serving_manifests import ServingSettings

ROLLOUT_COMMAND = "SERVING_ROLLOUT_COMMAND"
# For the command: a JSON object of variables of the server, because arguments of a process are visible to others.
ROLLOUT_SECRETS = "SERVING_SECRETS"
ROLLOUT_SECONDS = 300
DAGS = Path(__file__).parents[1]
POD_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# Serving uses the same registry and object store as this task.
PASSED_ON = ("ARTIFACTS_BUCKET", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_REGION", "MLFLOW_TRACKING_URI")


def deploy(
    name: str,
    version: str,
    model: str | None = None,
    image: str = "serving",
    secrets: Mapping[str, str] | None = None,
) -> str:
    """Serve `version` of a registered model; the old version serves until the new one is ready.

    Args:
        name: The name of the Deployment and the Service: `serves` in the DAG's `dag.yaml`, which also declares the size
            and the replicas.
        version: The version of the model, which the server finds in MODEL_VERSION.
        model: The name of the registered model, which the server finds in MODEL_NAME; `name` by default.
        image: The image of the server: the name of a folder in images/.
        secrets: Secret environment variables of the server; `dag.yaml` declares `takes_secrets`.

    SERVING_ROLLOUT_COMMAND, if set, runs with `name`, `model` and `version` as arguments and prints the URL as its last
    line.

    Returns:
        The endpoint's URL.
    """
    command = os.environ.get(ROLLOUT_COMMAND)
    model = model or name
    if command:
        return _run([*shlex.split(command), name, model, version], secrets or {})
    from ml_common.kubernetes_rollout import roll_out

    return roll_out(settings(name, model, image), version, secrets)


def settings(name: str, model: str, image: str) -> ServingSettings:
    """Read the declaration of the server, and the variables of its image, namespace and service account.

    These are <IMAGE>_IMAGE, SERVING_NAMESPACE (default: this pod's) and SERVING_SERVICE_ACCOUNT (default: "default").
    """
    declared = _declared(name)
    return ServingSettings(
        name=name,
        size=declared.get("size", "small"),
        replicas=declared.get("replicas", 1),
        reads_features=declared.get("reads_features", False),
        image=full_name(image),
        namespace=os.environ.get("SERVING_NAMESPACE") or _own_namespace(),
        service_account=os.environ.get("SERVING_SERVICE_ACCOUNT", "default"),
        environment={"MODEL_NAME": model, **{name: os.environ[name] for name in PASSED_ON if name in os.environ}},
    )


def _declared(name: str) -> Mapping[str, Any]:
    """Return the declaration of a model server: `serves` in the dag.yaml of its DAG, if that is more than a name."""
    declarations = (yaml.safe_load(file.read_text()) or {} for file in DAGS.glob("*/dag.yaml"))
    servers = (declaration.get("serves") for declaration in declarations)
    return next((server for server in servers if isinstance(server, Mapping) and server["name"] == name), {})


def _own_namespace() -> str:
    if not POD_NAMESPACE_FILE.exists():
        raise PermanentError("SERVING_NAMESPACE is not set: set it to the Kubernetes namespace to deploy to.")
    return POD_NAMESPACE_FILE.read_text().strip()


def _run(command: list[str], secrets: Mapping[str, str]) -> str:
    *_, model, version = command
    variables = {**os.environ, ROLLOUT_SECRETS: json.dumps(dict(secrets))}
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=ROLLOUT_SECONDS, check=False
        )
    except OSError as error:
        raise PermanentError(f"The command in {ROLLOUT_COMMAND} cannot be started: {error}.") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceUnavailableError(
            f"Version {version} of {model} was not served after {ROLLOUT_SECONDS} s."
        ) from error
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise ServiceUnavailableError(f"Version {version} of {model} could not be rolled out: {reason}")
    lines = done.stdout.split()
    if not lines:
        raise PermanentError(f"The command in {ROLLOUT_COMMAND} printed no endpoint URL.")
    return lines[-1]
