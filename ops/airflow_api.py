"""A client of Airflow's REST API."""

from dataclasses import dataclass
from typing import Any

import httpx

ACTIVE = ("queued", "running")
HEALTHY = "healthy"
TIMEOUT_SECONDS = 30
# Airflow closes a connection that is not used for 5 s, and a request that arrives just then has no answer.
KEEP_ALIVE_SECONDS = 2
USERS = "/auth/fab/v1/users"
CONNECTIONS = "/api/v2/connections"


class AirflowApiError(Exception):
    """Airflow rejected a request. The message is one sentence with the reason."""


@dataclass(frozen=True)
class Task:
    """A task instance of a run.

    Attributes:
        name: The task id, followed by a label in brackets if the task is mapped.
        state: Its state, or `waiting`.
        tries: The try number.
        seconds: Its duration, or None until it has ended.
        map_index: The number of the instance of a mapped task, or -1.
    """

    name: str
    state: str
    tries: int
    seconds: float | None
    map_index: int = -1

    @property
    def task_id(self) -> str:
        """The task id, which has no brackets."""
        return self.name.partition("[")[0]


class AirflowApi:
    """A logged-in client of one Airflow.

    Attributes:
        user: The name that it is logged in with.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        """Log in.

        Raises:
            AirflowApiError: Airflow rejected the login.
        """
        self.user = user
        transport = httpx.HTTPTransport(retries=3, limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS))
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, transport=transport, trust_env=False)
        answer = self._client.post("/auth/token", json={"username": user, "password": password})
        if answer.status_code != 201:
            raise AirflowApiError(f"Airflow rejected the login of {user} (HTTP {answer.status_code})")
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def unhealthy(self) -> list[str]:
        """Return the components, including the database, that Airflow does not report as healthy."""
        health = self._get("/api/v2/monitor/health")
        return [name for name, part in health.items() if (part or {}).get("status") != HEALTHY]

    def has_dag(self, dag: str) -> bool:
        """Return whether Airflow lists the DAG."""
        return self._client.get(f"/api/v2/dags/{dag}").status_code == 200

    def params(self, dag: str) -> dict[str, dict[str, Any]]:
        """Return the JSON schemas of the DAG's Params, by name."""
        found = self._get(f"/api/v2/dags/{dag}/details")["params"] or {}
        return {
            name: {**param["schema"], **({"description": param["description"]} if param.get("description") else {})}
            for name, param in found.items()
        }

    def is_paused(self, dag: str) -> bool:
        """Return whether the DAG is paused."""
        return bool(self._get(f"/api/v2/dags/{dag}")["is_paused"])

    def unpause(self, dag: str) -> None:
        """Unpause the DAG."""
        self._client.patch(f"/api/v2/dags/{dag}", json={"is_paused": False}).raise_for_status()

    def import_errors(self) -> list[str]:
        """Return the import errors of DAG files, one text per file."""
        errors = self._get("/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}:\n{error['stack_trace']}" for error in errors]

    def active_run(self, dag: str) -> dict[str, Any] | None:
        """Return the oldest run that has not ended, or None."""
        runs = self._get(f"/api/v2/dags/{dag}/dagRuns", state=list(ACTIVE), order_by="run_after", limit=1)["dag_runs"]
        return runs[0] if runs else None

    def newest_run(self, dag: str) -> str | None:
        """Return the ID of the run that was created last, or None."""
        runs = self._get(f"/api/v2/dags/{dag}/dagRuns", order_by="-id", limit=1)["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    def trigger(self, dag: str, conf: dict[str, Any]) -> dict[str, Any]:
        """Start a run with these Params.

        Raises:
            AirflowApiError: Airflow rejected the Params; the message has the reason.
        """
        answer = self._client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        if answer.status_code == 400:
            raise AirflowApiError(f"Airflow rejected the parameters: {answer.json()['detail'].splitlines()[0]}")
        answer.raise_for_status()
        return dict(answer.json())

    def run_state(self, dag: str, run: str) -> str:
        """Return a run's state: queued, running, success or failed."""
        return str(self._get(f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])

    def give_up(self, dag: str, run: str) -> None:
        """Mark a run as failed."""
        self._client.patch(f"/api/v2/dags/{dag}/dagRuns/{run}", json={"state": "failed"}).raise_for_status()

    def tasks(self, dag: str, run: str) -> list[Task]:
        """Return the run's tasks."""
        found = self._get(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances", limit=100)["task_instances"]
        return [
            Task(_name(task), task["state"] or "waiting", task["try_number"], task["duration"], task["map_index"])
            for task in found
        ]

    def log(self, dag: str, run: str, task: Task) -> list[str]:
        """Return the log lines of a task's last try."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.task_id}/logs/{task.tries}"
        content = self._get(path, full_content=True, map_index=task.map_index)["content"]
        return [entry if isinstance(entry, str) else _log_line(entry) for entry in content]

    def result(self, dag: str, run: str, task: str) -> Any:
        """Return a task's return value."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        return self._get(path, deserialize=True)["value"]

    def roles(self, user: str) -> list[str] | None:
        """Return the roles of a user; None if there is no such user."""
        answer = self._client.get(f"{USERS}/{user}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return [role["name"] for role in answer.json()["roles"]]

    def create_user(self, name: str, role: str, password: str) -> None:
        """Create a user with a role."""
        person = {"email": name, "first_name": name, "last_name": "-"}
        content = {"username": name, "roles": [{"name": role}], "password": password, **person}
        accepted(self._client.post(USERS, json=content))

    def change_user(self, name: str, **fields: Any) -> None:
        """Change the given fields of a user. Airflow ends the sessions of a user whose password changes."""
        accepted(self._client.patch(f"{USERS}/{name}", params={"update_mask": ",".join(fields)}, json=fields))

    def delete_user(self, name: str) -> None:
        """Delete a user."""
        accepted(self._client.delete(f"{USERS}/{name}"))

    def has_connection(self, name: str) -> bool:
        """Return whether there is a connection of this name."""
        answer = self._client.get(f"{CONNECTIONS}/{name}")
        if answer.status_code == 404:
            return False
        answer.raise_for_status()
        return True

    def create_connection(self, name: str, fields: dict[str, Any]) -> None:
        """Create a connection."""
        accepted(self._client.post(CONNECTIONS, json={"connection_id": name, **fields}))

    def change_connection(self, name: str, fields: dict[str, Any]) -> None:
        """Change the given fields of a connection."""
        content = {"connection_id": name, **fields}
        accepted(self._client.patch(f"{CONNECTIONS}/{name}", params={"update_mask": list(fields)}, json=content))

    def delete_connection(self, name: str) -> None:
        """Delete a connection."""
        accepted(self._client.delete(f"{CONNECTIONS}/{name}"))

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = self._client.get(path, params=parameters)
        answer.raise_for_status()
        return answer.json()


def accepted(answer: httpx.Response) -> None:
    """Check that Airflow accepted a request.

    Raises:
        AirflowApiError: Airflow rejected it; the message has the reason.
        httpx.HTTPStatusError: Airflow failed.
    """
    if answer.is_client_error:
        raise AirflowApiError(f"Airflow rejected the request (HTTP {answer.status_code}): {answer.json()['detail']}")
    answer.raise_for_status()


def _name(task: dict[str, Any]) -> str:
    label = task["rendered_map_index"] or task["map_index"]
    return f"{task['task_id']}[{label}]" if task["map_index"] >= 0 else str(task["task_id"])


def _log_line(entry: dict[str, Any]) -> str:
    errors = "; ".join(f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or [])
    return " ".join(filter(None, [entry.get("level", "").upper(), entry.get("event", ""), errors]))
