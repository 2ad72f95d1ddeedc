import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ops.airflow import ui
from ops.cli import stacks as operations

SECRETS = {
    name: {"username": b64encode(b"admin").decode(), "password": b64encode(f"of {name}".encode()).decode()}
    for name in ("airflow-admin", "mlflow-admin")
}


@contextmanager
def forwarded(_cluster: Any, _namespace: str, target: str, port: int, wanted: int) -> Iterator[int]:
    assert (target, port, wanted) in (("service/airflow-api-server", 8080, 8080), ("service/mlflow", 5000, 5000))
    yield wanted


def shown(secrets: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the output of `make ui` until Ctrl-C."""
    cluster = SimpleNamespace(
        context="kind-x",
        names=lambda *_: ["airflow-api-server"],
        get=lambda _, name, __: {"data": secrets[name]} if name in secrets else None,
    )
    stack = SimpleNamespace(cluster=cluster, namespace="airflow", name="local")
    monkeypatch.setattr(operations, "resolve_running", lambda *_: stack)
    monkeypatch.setattr(ui, "forwarded", forwarded)

    def interrupted(_event: threading.Event) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    monkeypatch.setattr(threading.Event, "wait", interrupted)
    monkeypatch.setattr(operations, "echo", said.append)
    operations.ui("local")
    return "\n".join(said)


def test_the_logins_of_airflow_and_mlflow_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(SECRETS, monkeypatch).splitlines() == [
        "Airflow    http://127.0.0.1:8080",
        "user       admin",
        "password   of airflow-admin",
        "MLflow     http://127.0.0.1:5000",
        "user       admin",
        "password   of mlflow-admin",
        "press Ctrl-C to stop",
        "closed",
    ]


def test_an_older_mlflow_without_a_login_does_not_block_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown({"airflow-admin": SECRETS["airflow-admin"]}, monkeypatch)
    assert "password   of airflow-admin" in text
    assert "MLflow has no administrator login yet: run `make deploy STACK=local`" in text
