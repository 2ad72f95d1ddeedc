"""Register the stack of Airflow's tasks with a ZenML server, and issue the API key with which tasks log in.

Runs in ZenML's environment. Reads the settings as JSON from standard input and answers `{"api_key": ...}`. It can be
repeated: the stack gets the new settings, and the key is replaced. The previous key is valid for another hour, so that
running tasks can end.
"""

import json
import os
import sys
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.enums import StackComponentType

ACCOUNT = "airflow"
API_KEY = "tasks"
SECRET = "mlflow"  # noqa: S105 - the name of the secret
PREVIOUS_KEY_MINUTES = 60


class Settings(TypedDict):
    """What the stack consists of.

    Attributes:
        url: The address of the ZenML server.
        password: The password of its user `admin`.
        stack: The name of the stack and of its components.
        artifacts: The folder of the artifacts, `s3://<bucket>/<folder>`. Tasks use their own credentials.
        mlflow: The address of MLflow.
        mlflow_user: Its user for tasks.
        mlflow_password: The password of this user, which the server stores encrypted.
    """

    url: str
    password: str
    stack: str
    artifacts: str
    mlflow: str
    mlflow_user: str
    mlflow_password: str


def register(settings: Settings) -> dict[str, str]:
    """Register the stack, and answer a new API key."""
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    _set_secret(client, {"user": settings["mlflow_user"], "password": settings["mlflow_password"]})
    components: dict[StackComponentType, tuple[str, dict[str, Any]]] = {
        # Its settings for a remote Airflow require a container registry: tasks here run in images of this repository.
        StackComponentType.ORCHESTRATOR: ("airflow", {"local": True}),
        StackComponentType.ARTIFACT_STORE: ("s3", {"path": settings["artifacts"]}),
        StackComponentType.EXPERIMENT_TRACKER: (
            "mlflow",
            {
                "tracking_uri": settings["mlflow"],
                "tracking_username": f"{{{{{SECRET}.user}}}}",
                "tracking_password": f"{{{{{SECRET}.password}}}}",
            },
        ),
    }
    name = settings["stack"]
    for kind, (flavor, configuration) in components.items():
        _set_component(client, kind, name, flavor, configuration)
    if not client.list_stacks(name=name).total:
        client.create_stack(name=name, components=dict.fromkeys(components, name))
    return {"api_key": _new_api_key(client)}


def _set_secret(client: "Client", values: Mapping[str, str]) -> None:
    if client.list_secrets(name=SECRET).total:
        client.update_secret(SECRET, add_or_update_values=dict(values))
    else:
        client.create_secret(SECRET, dict(values))


def _set_component(
    client: "Client", kind: "StackComponentType", name: str, flavor: str, configuration: dict[str, Any]
) -> None:
    if client.list_stack_components(type=kind, name=name).total:
        client.update_stack_component(name, kind, configuration=configuration)
    else:
        client.create_stack_component(name, flavor, kind, configuration=configuration)


def _new_api_key(client: "Client") -> str:
    if not client.list_service_accounts(name=ACCOUNT).total:
        client.create_service_account(ACCOUNT, description="The tasks of Airflow")
    if client.list_api_keys(ACCOUNT, name=API_KEY).total:
        key = client.rotate_api_key(ACCOUNT, API_KEY, retain_period_minutes=PREVIOUS_KEY_MINUTES)
    else:
        key = client.create_api_key(ACCOUNT, API_KEY)
    return str(key.key)


def main() -> None:
    """Answer the API key."""
    # What ZenML prints is not the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings: Settings = json.load(sys.stdin)
    with TemporaryDirectory() as temporary:
        os.environ |= {
            "HOME": temporary,
            "ZENML_CONFIG_PATH": temporary,
            "ZENML_STORE_URL": settings["url"],
            "ZENML_STORE_USERNAME": "admin",
            "ZENML_STORE_PASSWORD": settings["password"],
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_LOGGING_COLORS_DISABLED": "true",
            "ZENML_ENABLE_RICH_TRACEBACK": "false",
            # Otherwise the client stores its token in a file.
            "DISABLE_CREDENTIALS_DISK_CACHING": "true",
        }
        json.dump(register(settings), answer)
    answer.close()


if __name__ == "__main__":
    main()
