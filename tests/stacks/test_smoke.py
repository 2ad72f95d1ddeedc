import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from infra.errors import OperationError
from infra.settings import load
from ops.airflow import dags, smoke, smoke_run, ui
from ops.airflow.dags import Revision
from ops.airflow.ui import Login
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Namespace
from ops.stacks.preview_stack import PreviewStack
from ops.stacks.resolve import stack_with
from ops.stacks.stack import Stack
from tests.previews.conftest import settings_of

COMMIT, OTHER = "1" * 40, "2" * 40
USER, PASSWORD = "admin", "correct"
RUNS = "/api/v2/dags/smoke_test/dagRuns"
TASKS = f"{RUNS}/run-1/taskInstances"
WELL: dict[str, Any] = {
    "/api/v2/monitor/health": {
        name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
    },
    "/api/v2/importErrors": {"import_errors": []},
    "/api/v2/dags/smoke_test": {"is_paused": False},
    f"{RUNS}/run-1": {"state": "success"},
    TASKS: {
        "task_instances": [
            {
                "task_id": "reach_services",
                "state": "failed",
                "try_number": 2,
                "duration": 1.0,
                "map_index": -1,
                "rendered_map_index": None,
            }
        ]
    },
    f"{TASKS}/reach_services/logs/2": {"content": []},
}


class FakeAirflow:
    """An Airflow with fixed responses. The items of a list are returned in order, then the last one repeatedly."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = dict(WELL)
        self.triggered = 0
        self.conf: dict[str, Any] = {}
        self.given_up: list[str] = []

    def get(self, path: str) -> Any:
        answer = self.answers.get(path)
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    it = FakeAirflow()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            if self.headers["Authorization"] != "Bearer token":
                return self.answer(401, {})
            found = it.get(self.path.partition("?")[0])
            return self.answer(404, {}) if found is None else self.answer(200, found)

        def do_POST(self) -> None:
            content = self.body()
            if self.path == "/auth/token":
                right = content == {"username": USER, "password": PASSWORD}
                return self.answer(201 if right else 401, {"access_token": "token"} if right else {})
            it.triggered += 1
            it.conf = content["conf"]
            return self.answer(200, {"dag_run_id": "run-1"})

        def do_PATCH(self) -> None:
            it.given_up.append(f"{self.path} {self.body()['state']}")
            self.answer(200, {})

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    login = Login(f"http://127.0.0.1:{server.server_port}", USER, PASSWORD)

    @contextmanager
    def port_forwarded(_: Stack) -> Iterator[Login]:
        yield login

    monkeypatch.setattr(ui, "airflow_forwarded", port_forwarded)
    monkeypatch.setattr(dags, "revision", lambda _: Revision(COMMIT, COMMIT))
    monkeypatch.setattr(smoke, "POLL_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(smoke_run, "POLL_INTERVAL_SECONDS", 0)
    yield it
    server.shutdown()
    server.server_close()


class Pods:
    """A cluster whose pods are healthy, or all have the given problem."""

    context = "kind-test"

    def __init__(self, *pods: Any, events: list[tuple[Any, ...]]) -> None:
        self.pods = pods
        self.events = events

    def namespace(self, name: str) -> Namespace:
        of_tasks = self.events.pop(0) if self.events and name == "airflow-tasks" else ()
        return Namespace(pods=self.pods, events=of_tasks)

    def log(self, *_: str) -> str:
        return ""


ILL = {
    "metadata": {"name": "smoke-test-1", "uid": "u"},
    "spec": {"containers": []},
    "status": {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "base",
                "image": "x/ml:1",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "x: not found"}},
            }
        ],
    },
}


def check(*pods: Any, events: Sequence[tuple[Any, ...]] = ()) -> list[str]:
    said: list[str] = []
    cluster = cast(Cluster, Pods(*pods, events=list(events)))
    stack = stack_with("dev", load("dev"), pytest.fail)
    vars(stack)["cluster"] = cluster
    smoke.smoke(stack, said.append)
    return said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    settled, run, last_error = smoke.settled, smoke_run.run, smoke_run.last_error
    monkeypatch.setattr(smoke, "settled", lambda look, watch: settled(look, watch, seconds=0))
    monkeypatch.setattr(smoke, "run", lambda api, stack, watch: run(api, stack, watch, seconds=0))
    monkeypatch.setattr(smoke_run, "last_error", lambda api, run_id: last_error(api, run_id, seconds=0))


def test_each_passed_check_is_one_line_with_its_duration(fake: FakeAirflow) -> None:
    said = check()
    assert [one.split()[0] for one in said] == ["login", "health", "commit", "DAG", "task"]
    assert all(one.endswith(" s") for one in said)
    assert "111111111111, the latest of the branch" in said[2]
    assert (fake.triggered, fake.given_up) == (1, [])
    assert fake.conf == {"network_policies": True}


def test_a_refused_login_is_an_error(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with ui.airflow_forwarded(cast(Stack, None)) as login:
        monkeypatch.setattr(ui, "airflow_forwarded", lambda _: _as_context(Login(login.url, USER, "wrong")))
        with pytest.raises(OperationError, match=r"^Airflow rejected the login of admin \(HTTP 401\)$"):
            check()


def test_the_stacks_on_aws_need_enforced_network_policies_also_for_preview_environments() -> None:
    dev, local = (stack_with(name, load(name), pytest.fail) for name in ("dev", "local"))
    assert dev.enforces_network_policies
    assert not local.enforces_network_policies
    for base in (dev, local):
        preview = PreviewStack(base, settings_of(base.name))
        assert preview.enforces_network_policies == base.enforces_network_policies


@contextmanager
def _as_context(login: Login) -> Iterator[Login]:
    yield login


def test_an_airflow_that_does_not_respond_is_an_error(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "airflow_forwarded", lambda _: _as_context(Login("http://127.0.0.1:9", USER, PASSWORD)))
    with pytest.raises(OperationError, match=r"^Airflow's API does not respond \(.*refused\): check its pods"):
        check()


@pytest.mark.parametrize("part", [{"status": "unhealthy"}, {"status": None}, None])
def test_a_component_that_is_not_healthy_is_named(fake: FakeAirflow, impatient: None, part: Any) -> None:
    path = "/api/v2/monitor/health"
    fake.answers[path] = {**WELL[path], "triggerer": part}
    with pytest.raises(OperationError, match=r"^Airflow reports as unhealthy: triggerer; check the pods"):
        check()
    assert fake.triggered == 0


def test_a_component_that_becomes_healthy_in_time_is_waited_for(fake: FakeAirflow) -> None:
    path = "/api/v2/monitor/health"
    fake.answers[path] = [{**WELL[path], "scheduler": {"status": "unhealthy"}}, WELL[path]]
    assert len(check()) == 5


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        (
            Revision(COMMIT, OTHER),
            r"^the running commit is 111111111111, but the branch is at 222222222222: check git-sync",
        ),
        (Revision(None, OTHER), r"^the running commit is unknown: no dag-processor responds: check"),
        (Revision(COMMIT, None), r"^the running commit is 111111111111; the branch cannot be read from this machine:"),
        (Revision(None, None), r"^the running commit is unknown"),
    ],
)
def test_a_commit_other_than_the_latest_is_an_error(
    fake: FakeAirflow, impatient: None, monkeypatch: pytest.MonkeyPatch, revision: Revision, sentence: str
) -> None:
    monkeypatch.setattr(dags, "revision", lambda _: revision)
    with pytest.raises(OperationError, match=sentence):
        check()


def test_a_dag_file_with_an_import_error_is_an_error(fake: FakeAirflow, impatient: None) -> None:
    error = {"filename": "a_dag.py", "stack_trace": "Traceback:\n  line 1\nImportError: no torch\n"}
    fake.answers["/api/v2/importErrors"] = {"import_errors": [error]}
    with pytest.raises(OperationError, match=r"^a DAG file cannot be imported: a_dag.py: ImportError: no torch$"):
        check()


def test_a_branch_without_the_dag_is_an_error(fake: FakeAirflow, impatient: None) -> None:
    del fake.answers["/api/v2/dags/smoke_test"]
    with pytest.raises(
        OperationError, match=r"^Airflow has no DAG smoke_test: check that the branch contains dags/smoke_test"
    ):
        check()


def test_a_paused_dag_is_not_waited_for(fake: FakeAirflow) -> None:
    fake.answers["/api/v2/dags/smoke_test"] = {"is_paused": True}
    with pytest.raises(OperationError, match=r"^the DAG smoke_test is paused: unpause it in Airflow's UI$"):
        check()
    assert fake.triggered == 0


def test_a_run_is_waited_for_until_it_ends(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = [{"state": "queued"}, {"state": "running"}, {"state": "success"}]
    assert check()[-1].startswith("task       smoke_test ran in its own pod, ")
    assert fake.given_up == []


LOG = f"{TASKS}/reach_services/logs/2"
STARTED = {"level": "info", "event": "it began"}
FAILED = {"level": "error", "event": "MLflow does not answer"}
CALLBACK = {"level": "error", "event": '{"event": "task_failed"}'}


def test_a_failed_task_is_reported_with_its_last_error(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    # The log is available only after the task has ended.
    fake.answers[LOG] = [{"content": []}, {"content": [STARTED, FAILED, CALLBACK]}]
    with pytest.raises(OperationError, match=r"^the task of smoke_test failed: MLflow does not answer$"):
        check()


def test_a_failed_task_without_errors_in_its_log_is_reported(fake: FakeAirflow, impatient: None) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    fake.answers[LOG] = {"content": [STARTED]}
    with pytest.raises(
        OperationError, match=r"^the task of smoke_test failed: its log contains no error: see the run with"
    ):
        check()


def event(name: str, image: str, uid: str = "new") -> dict[str, Any]:
    message = f'Failed to pull image "{image}": rpc error: not found'
    return {"metadata": {"uid": uid}, "involvedObject": {"kind": "Pod", "name": name}, "message": message}


def test_a_failed_image_pull_is_reported_from_the_events_of_a_deleted_pod(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    old = event("smoke-test-reach-services-1", "x/ml:0", "old")
    others = event("image-classifier-train-1", "x/other:1")
    new = event("smoke-test-reach-services-2", "x/ml:1")
    events = [(old,), (old, {**new, "message": None, "metadata": {"uid": "3"}}, others, new)]
    with pytest.raises(
        OperationError, match=r"^the task of smoke_test failed: the image x/ml:1 cannot be pulled \(not found\)"
    ):
        check(events=events)


def test_a_pod_that_cannot_start_ends_the_run_at_once(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.kubernetes.diagnosis.IMAGE_SECONDS", 0)
    monkeypatch.setattr("ops.kubernetes.watch.CORRECTION_SECONDS", 0)
    fake.answers[f"{RUNS}/run-1"] = {"state": "queued"}
    with pytest.raises(
        OperationError, match=r"^the task of smoke_test does not run: pod smoke-test-1: the image x/ml:1"
    ):
        check(ILL)
    assert fake.given_up == [f"{RUNS}/run-1 failed"]


def test_a_run_that_takes_too_long_is_ended(fake: FakeAirflow, impatient: None) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "running"}
    with pytest.raises(OperationError, match=r"^the task of smoke_test did not run within 0 s: see `make status`$"):
        check()
    assert fake.given_up == [f"{RUNS}/run-1 failed"]


def test_an_interruption_ends_the_run(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "running"}
    monkeypatch.setattr("time.sleep", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        check()
    assert fake.given_up == [f"{RUNS}/run-1 failed"]


def _interrupted(_: float) -> None:
    raise KeyboardInterrupt


def test_a_check_that_never_passes_fails_with_the_problem_of_the_pods(
    fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.kubernetes.diagnosis.IMAGE_SECONDS", 0)
    monkeypatch.setattr("ops.kubernetes.watch.CORRECTION_SECONDS", 0)
    path = "/api/v2/monitor/health"
    fake.answers[path] = {**WELL[path], "scheduler": {"status": "unhealthy"}}
    with pytest.raises(
        OperationError, match=r"^Airflow reports as unhealthy: scheduler; .* \(pod smoke-test-1: the image x"
    ):
        check(ILL)
