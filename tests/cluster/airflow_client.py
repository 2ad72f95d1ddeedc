"""A client for Airflow's API, through port-forward."""

import base64
import re
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from infra.airflow_names import ADMIN_SECRET

from .stack import NAMESPACE, get, wait_until

FINISHED = ("success", "failed")
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class ForwardedPort:
    """Forward a loopback port to a Service while the context is open."""

    def __init__(self, service: str, port: int, namespace: str = NAMESPACE) -> None:
        self._command = ["kubectl", "port-forward", "-n", namespace, f"service/{service}", f":{port}"]

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        found = FORWARDING.search(self._process.stdout.readline())
        assert found, f"{' '.join(self._command)} forwards nothing"
        return f"http://127.0.0.1:{found[1]}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def credentials(namespace: str) -> dict[str, str]:
    """Return the administrator's login; the chart's default if the stack's Secret does not exist."""
    found = get("secrets", "--field-selector", f"metadata.name={ADMIN_SECRET}", namespace=namespace)["items"]
    if not found:
        return {"username": "admin", "password": "admin"}
    return {key: base64.b64decode(found[0]["data"][key]).decode() for key in ("username", "password")}


class Airflow:
    """A client that logs in as the administrator and reconnects if a pod is replaced."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._forwarded.__exit__()

    def _connect(self) -> None:
        self._forwarded = ForwardedPort("airflow-api-server", 8080, self._namespace)
        self.url = self._forwarded.__enter__()
        login = credentials(self._namespace)
        token = httpx.post(f"{self.url}/auth/token", json=login, timeout=60).raise_for_status().json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=60
        )

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        for attempt in range(60):
            try:
                if attempt:
                    self._reconnect()
                return self._http.request(method, path, **arguments).raise_for_status().json()
            except httpx.TransportError:
                if attempt == 59:
                    raise
        return None

    def _reconnect(self) -> None:
        self._forwarded.__exit__()
        wait_until(self._is_served, "an api-server")
        self._connect()

    def _is_served(self) -> bool:
        return bool(get("endpoints", "airflow-api-server", namespace=self._namespace).get("subsets"))

    def get(self, path: str, **parameters: Any) -> Any:
        return self.request("GET", path, params=parameters)

    def dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self.get("dags", limit=100)["dags"]}

    def import_errors(self) -> dict[str, str]:
        return {error["filename"]: error["stack_trace"] for error in self.get("importErrors")["import_errors"]}

    def trigger(self, dag_id: str, params: Mapping[str, Any] | None = None) -> str:
        body = {"logical_date": None, "conf": params or {}}
        return str(self.request("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> list[Any]:
        return list(self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=200)["task_instances"])

    def finish(self, dag_id: str, run_id: str, seconds: float) -> str:
        """Return the final state of a run."""

        def ended() -> str | None:
            state = self.state(dag_id, run_id)
            return state if state in FINISHED else None

        # Each answer takes CPU time of the api-server, which the tasks need.
        return str(wait_until(ended, f"the run {run_id} of {dag_id}", seconds, interval=2))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, seconds: float) -> None:
        """Answer the question of a task as soon as it is asked."""
        path = f"dags/{dag_id}/dagRuns/{run_id}"

        def asked() -> bool:
            questions = self.get(f"{path}/hitlDetails", response_received=False)["hitl_details"]
            return any(question["task_instance"]["task_id"] == task_id for question in questions)

        wait_until(asked, f"the question of {task_id}", seconds)
        details = f"{path}/taskInstances/{task_id}/-1/hitlDetails"
        self.request("PATCH", details, json={"chosen_options": [option], "params_input": {}})

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1, map_index: int = -1) -> str:
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return str(self.get(path, full_content=True, map_index=map_index)["content"])
