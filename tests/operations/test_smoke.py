import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from infra.errors import OperationError
from ops.airflow import airflow_ui, dags, smoke, smoke_run
from ops.airflow.airflow_ui import Login
from ops.airflow.dags import Revision
from ops.airflow.installation import Installation
from ops.kubernetes.cluster import Cluster
from ops.kubernetes.diagnosis import Diagnosis, Namespace

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
    TASKS: {"task_instances": [{"task_id": "reach_services", "state": "failed", "try_number": 2, "duration": 1.0}]},
    f"{TASKS}/reach_services/logs/2": {"content": []},
}


class FakeAirflow:
    """An Airflow that answers what it is told to; a list is given out one by one, the last one again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = dict(WELL)
        self.triggered = 0
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
    def reached(_: Installation) -> Iterator[Login]:
        yield login

    monkeypatch.setattr(airflow_ui, "reached", reached)
    monkeypatch.setattr(dags, "revision", lambda _: Revision(COMMIT, COMMIT))
    monkeypatch.setattr(smoke, "LOOK_SECONDS", 0)
    monkeypatch.setattr(smoke_run, "LOOK_SECONDS", 0)
    yield it
    server.shutdown()
    server.server_close()


class Pods:
    """A cluster whose pods are well, or all have the problem that is given."""

    context = "kind-test"

    def __init__(self, *pods: Any, events: list[tuple[Any, ...]]) -> None:
        self.pods = pods
        self.events = events

    def namespace(self, _: str) -> Namespace:
        return Namespace(pods=self.pods, events=self.events.pop(0) if self.events else ())

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
    smoke.check(Installation("dev", cluster, "airflow", ("airflow",), Diagnosis("dev", "x", "dev"), None), said.append)
    return said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    settled, run, last_error = smoke.settled, smoke_run.run, smoke_run.last_error
    monkeypatch.setattr(smoke, "settled", lambda look, watch: settled(look, watch, seconds=0))
    monkeypatch.setattr(smoke, "run", lambda api, installation, watch: run(api, installation, watch, seconds=0))
    monkeypatch.setattr(smoke_run, "last_error", lambda api, run_id: last_error(api, run_id, seconds=0))


def test_each_thing_that_works_is_one_line_with_its_seconds(fake: FakeAirflow) -> None:
    said = check()
    assert [one.split()[0] for one in said] == ["login", "health", "commit", "DAG", "task"]
    assert all(one.endswith(" s") for one in said)
    assert "111111111111, the newest of the branch" in said[2]
    assert (fake.triggered, fake.given_up) == (1, [])


def test_a_login_that_is_refused_is_told(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with airflow_ui.reached(cast(Installation, None)) as login:
        monkeypatch.setattr(airflow_ui, "reached", lambda _: _as_context(Login(login.url, USER, "wrong")))
        with pytest.raises(OperationError, match=r"^Airflow rejected the login of admin \(HTTP 401\)$"):
            check()


@contextmanager
def _as_context(login: Login) -> Iterator[Login]:
    yield login


def test_an_airflow_that_does_not_answer_is_told(fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_ui, "reached", lambda _: _as_context(Login("http://127.0.0.1:9", USER, PASSWORD)))
    with pytest.raises(OperationError, match=r"^Airflow's API does not answer \(.*refused\): see its pods"):
        check()


@pytest.mark.parametrize("part", [{"status": "unhealthy"}, {"status": None}, None])
def test_a_component_that_is_not_healthy_is_named(fake: FakeAirflow, impatient: None, part: Any) -> None:
    path = "/api/v2/monitor/health"
    fake.answers[path] = {**WELL[path], "triggerer": part}
    with pytest.raises(OperationError, match=r"^Airflow says that triggerer is not healthy: see its pods"):
        check()
    assert fake.triggered == 0


def test_a_component_that_becomes_healthy_in_time_is_waited_for(fake: FakeAirflow) -> None:
    path = "/api/v2/monitor/health"
    fake.answers[path] = [{**WELL[path], "scheduler": {"status": "unhealthy"}}, WELL[path]]
    assert len(check()) == 5


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        (Revision(COMMIT, OTHER), r"^the commit that runs is 111111111111, while the branch is at 222222222222$"),
        (Revision(None, OTHER), r"^the commit that runs is unknown: no dag-processor answers$"),
        (Revision(COMMIT, None), r"^the commit that runs is 111111111111; the branch cannot be asked from here$"),
        (Revision(None, None), r"^the commit that runs is unknown"),
    ],
)
def test_another_commit_than_the_newest_is_told(
    fake: FakeAirflow, impatient: None, monkeypatch: pytest.MonkeyPatch, revision: Revision, sentence: str
) -> None:
    monkeypatch.setattr(dags, "revision", lambda _: revision)
    with pytest.raises(OperationError, match=sentence):
        check()


def test_a_dag_file_that_cannot_be_read_is_told_with_its_error(fake: FakeAirflow, impatient: None) -> None:
    error = {"filename": "a_dag.py", "stack_trace": "Traceback:\n  line 1\nImportError: no torch\n"}
    fake.answers["/api/v2/importErrors"] = {"import_errors": [error]}
    with pytest.raises(OperationError, match=r"^a DAG file cannot be read: a_dag.py: ImportError: no torch$"):
        check()


def test_a_branch_without_the_dag_is_told(fake: FakeAirflow, impatient: None) -> None:
    del fake.answers["/api/v2/dags/smoke_test"]
    with pytest.raises(
        OperationError, match=r"^Airflow lists no DAG smoke_test: see that the branch has dags/smoke_test"
    ):
        check()


def test_a_paused_dag_is_not_waited_for(fake: FakeAirflow) -> None:
    fake.answers["/api/v2/dags/smoke_test"] = {"is_paused": True}
    with pytest.raises(OperationError, match=r"^the DAG smoke_test is paused: switch it on in the user interface$"):
        check()
    assert fake.triggered == 0


def test_a_run_is_waited_for_until_it_ends(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = [{"state": "queued"}, {"state": "running"}, {"state": "success"}]
    assert check()[-1].startswith("task       smoke_test ran in a pod of its own, ")
    assert fake.given_up == []


LOG = f"{TASKS}/reach_services/logs/2"
STARTED = {"level": "info", "event": "it began"}
FAILED = {"level": "error", "event": "MLflow does not answer"}
CALLBACK = {"level": "error", "event": '{"event": "task_failed"}'}


def test_a_task_that_fails_is_told_with_its_last_error(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    # The log arrives after the task has ended.
    fake.answers[LOG] = [{"content": []}, {"content": [STARTED, FAILED, CALLBACK]}]
    with pytest.raises(OperationError, match=r"^the task of smoke_test failed: MLflow does not answer$"):
        check()


def test_a_task_that_fails_without_a_word_is_told(fake: FakeAirflow, impatient: None) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    fake.answers[LOG] = {"content": [STARTED]}
    with pytest.raises(
        OperationError, match=r"^the task of smoke_test failed: its log has no error in it: see `make ui`$"
    ):
        check()


def event(name: str, image: str, uid: str = "new") -> dict[str, Any]:
    message = f'Failed to pull image "{image}": rpc error: not found'
    return {"metadata": {"uid": uid}, "involvedObject": {"kind": "Pod", "name": name}, "message": message}


def test_an_image_that_the_executor_gave_up_is_told_by_what_is_left_of_its_pod(fake: FakeAirflow) -> None:
    fake.answers[f"{RUNS}/run-1"] = {"state": "failed"}
    old = event("smoke-test-reach-services-1", "x/ml:0", "old")
    others = event("image-classifier-train-1", "x/other:1")
    new = event("smoke-test-reach-services-2", "x/ml:1")
    events = [(old,), (old, {**new, "message": None, "metadata": {"uid": "3"}}, others, new)]
    with pytest.raises(
        OperationError, match=r"^the task of smoke_test failed: the image x/ml:1 cannot be pulled \(not found\)"
    ):
        check(events=events)


def test_a_pod_that_cannot_start_is_told_at_once_and_the_run_is_ended(
    fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with pytest.raises(OperationError, match=r"^the task of smoke_test has not run within 0 s: see `make status`$"):
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


def test_a_thing_that_never_settles_is_told_with_what_ails_the_pods(
    fake: FakeAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.kubernetes.diagnosis.IMAGE_SECONDS", 0)
    monkeypatch.setattr("ops.kubernetes.watch.CORRECTION_SECONDS", 0)
    path = "/api/v2/monitor/health"
    fake.answers[path] = {**WELL[path], "scheduler": {"status": "unhealthy"}}
    with pytest.raises(
        OperationError, match=r"^Airflow says that scheduler .* \(pod smoke-test-1: the image x/ml:1 cannot"
    ):
        check(ILL)
