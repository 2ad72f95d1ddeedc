"""End-to-end tests of `make up`, in a separate home and on separate ports."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image, ImageDraw

from infra import mlflow_users
from ops.console import new_console
from ops.laptop import airflow, flights, mlflow, object_store, ports, processes, serving
from ops.laptop.home import Home, write_atomically
from ops.laptop.images import DIGITS_PREFIX, digits
from ops.laptop.laptop import Laptop
from ops.loopback import port_is_free
from tests import webhook
from tests.webhook import Webhook

MINUTE = 60


@dataclass(frozen=True)
class Up:
    """The output and exit code of one `up`."""

    code: int
    output: str
    error: str


@dataclass(frozen=True)
class Machine:
    """The laptop mode in a separate home."""

    home: Home

    def run(self, *arguments: str, minutes: float = 30) -> Up:
        command = [sys.executable, "-m", "ops", *arguments, "--home", str(self.home.root)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=minutes * MINUTE)
        return Up(done.returncode, done.stdout, done.stderr)

    @property
    def laptop(self) -> Laptop:
        return Laptop.known(self.home)

    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.home.results / "report.json").read_text()))

    def pids(self) -> dict[str, int]:
        return {name: record.pid for name, record in processes.records(self.home).items()}

    def keys(self, bucket: str) -> set[str]:
        pages = self.laptop.s3.get_paginator("list_objects_v2").paginate(Bucket=object_store.BUCKETS[bucket])
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    @property
    def mlflow_login(self) -> tuple[str, str]:
        return mlflow_users.ADMIN, self.home.secrets.mlflow_admin

    def versions(self) -> list[str]:
        answer = httpx.get(
            f"http://127.0.0.1:{self.laptop.ports['mlflow']}/api/2.0/mlflow/model-versions/search",
            params={"filter": "name = 'image_classifier'"},
            trust_env=False,
            auth=self.mlflow_login,
        )
        return [version["version"] for version in answer.json().get("model_versions", [])]

    def predict(self, picture: bytes) -> str:
        answer = httpx.post(
            f"{serving.url(self.laptop.ports)}/predict", files={"image": picture}, timeout=30, trust_env=False
        )
        return str(answer.json()["class"])


@dataclass(frozen=True)
class Kept:
    """What must not be lost: the stored objects, the versions of the model, and the champion, which must be served."""

    objects: set[str]
    versions: list[str]
    champion: str | None

    @classmethod
    def of(cls, machine: Machine) -> "Kept":
        champion = serving.champion(machine.home, machine.laptop.ports)
        assert serving.served_version(machine.laptop.ports) == champion
        return cls(machine.keys("data") | machine.keys("artifacts"), machine.versions(), champion)

    def check(self, machine: Machine) -> None:
        """More objects are allowed: the server of documents stores the record of a question after its answer."""
        now = Kept.of(machine)
        assert self.objects - now.objects == set()
        assert (now.versions, now.champion) == (self.versions, self.champion)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="laptop-"))  # pytest's folder is closed to other users
    home = Home(folder / "home with space [ml]")
    home.create()
    own = dict(zip(ports.PREFERRED, free_ports(len(ports.PREFERRED)), strict=True))
    write_atomically(home.root / "ports.json", json.dumps(own))
    machine = Machine(home)
    yield machine
    machine.run("clean")
    folder.rmdir()


@pytest.fixture(scope="module")
def first(machine: Machine) -> Up:
    return machine.run("up")


def free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(processes.free_port(21000, taken=found))
    return sorted(found)


def members(machine: Machine) -> list[psutil.Process]:
    return [member for record in processes.records(machine.home).values() for member in record.members()]


def each(processes: list[psutil.Process], look: Callable[[psutil.Process], Any]) -> list[Any]:
    """Apply `look` to each process that has not ended."""
    seen = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen.append(look(process))
    return seen


def test_up_trains_registers_and_serves_a_model(machine: Machine, first: Up) -> None:
    assert first.code == 0, first.error
    report = machine.report()
    assert report["accuracy"] >= 0.97
    assert report["promoted"]
    assert set(report["per_class"]) == set("0123456789")
    assert f"accuracy {report['accuracy']:.4f}" in first.output
    for picture in ("confusion_matrix.png", "predictions.png"):
        assert Image.open(machine.home.results / picture).width > 300
    assert report["model_uri"].startswith("s3://airflow-artifacts/")
    assert machine.versions() == [report["version"]] == [serving.champion(machine.home, machine.laptop.ports)]


def test_the_printed_curl_command_classifies_an_image(first: Up) -> None:
    line = next(line for line in first.output.splitlines() if "curl" in line).strip()
    answer = json.loads(subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout)
    assert answer["class"] == "0"  # the first image under the prefix
    assert answer["probabilities"].keys() == set("0123456789")


def test_the_endpoint_recognizes_the_digits(machine: Machine, first: Up) -> None:
    sample = list(digits())[::60]
    right = sum(machine.predict(digit.read()) == digit.name.split("/")[0] for digit in sample)
    assert right / len(sample) >= 0.9


def test_no_password_is_printed_into_a_pipe_and_login_shows_them(machine: Machine, first: Up) -> None:
    assert not [secret for secret in machine.home.secrets.__dict__.values() if secret in first.output + first.error]
    assert f"LAPTOP_HOME='{machine.home.root}' make login" in first.output
    assert f"user admin, password {machine.home.secrets.admin}" in machine.run("login").output


def test_the_home_is_closed_to_other_users(machine: Machine, first: Up) -> None:
    assert stat.S_IMODE(machine.home.root.stat().st_mode) == (0o700 if os.geteuid() else 0o710)


def test_every_printed_address_answers(machine: Machine, first: Up) -> None:
    addresses = re.findall(r"http://127\.0\.0\.1:\d+\S*", first.output)
    assert len(addresses) >= 4
    for address in addresses:
        expected = 405 if address.endswith("/predict") else 200  # this one requires an image
        login = machine.mlflow_login if f":{machine.laptop.ports['mlflow']}" in address else None
        answer = httpx.get(address, auth=login, follow_redirects=True, timeout=30, trust_env=False)
        assert answer.status_code == expected, address


def test_the_smoke_test_of_clusters_also_passes_here(machine: Machine, first: Up) -> None:
    ran = machine.run("run", "smoke_test")
    assert ran.code == 0, ran.error
    lines = ran.output.splitlines()
    assert lines[0].startswith("started the run manual__")
    assert any(line.startswith("reach_services: success after ") for line in lines)
    assert lines[-1].endswith(" succeeded")


def test_the_log_of_the_dag_processor_says_why_a_dag_is_missing(machine: Machine, first: Up) -> None:
    assert first.code == 0, first.error
    log = (machine.home.logs / "dag-processor.log").read_text()
    assert "There is no DAG external_training_sagemaker: the Airflow connection sagemaker does not exist: " in log


def test_a_dag_that_does_not_exist_is_named_at_once(machine: Machine, first: Up) -> None:
    refused = machine.run("run", "nothing", minutes=2)
    sentence = "error: there is no folder dags/nothing: correct DAG, or run `make dag NAME=nothing`\n"
    assert (refused.code, refused.error) == (1, sentence)


def test_params_that_a_dag_does_not_have_are_named(machine: Machine, first: Up) -> None:
    refused = machine.run("run", "smoke_test", "--params", "x=1")
    assert (refused.code, refused.error) == (1, 'error: unknown parameter "x" in PARAMS: use network_policies\n')


def test_task_logs_are_in_the_logs_bucket(machine: Machine, first: Up) -> None:
    def logged() -> set[str]:
        return {match[1] for key in machine.keys("logs") if (match := re.search(r"task_id=(\w+)/", key))}

    deadline = time.monotonic() + 2 * MINUTE  # a task's log is uploaded after its end
    while not logged() >= {"validate", "train", "gate", "deploy", "smoke_test"}:
        assert time.monotonic() < deadline, logged()
        time.sleep(0.5)


def test_everything_listens_on_the_loopback_address_only(machine: Machine, first: Up) -> None:
    connections = each(members(machine), lambda member: member.net_connections("inet"))
    listening = {c.laddr for found in connections for c in found if c.status == psutil.CONN_LISTEN}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} >= set(machine.laptop.ports.values())


def test_no_secret_is_in_a_process_argument_or_a_log(machine: Machine, first: Up) -> None:
    secrets = [secret for secret in machine.home.secrets.__dict__.values() if not secret.startswith("AKIA")]
    arguments = " ".join(" ".join(words) for words in each(members(machine), psutil.Process.cmdline))
    assert "-s3.port=" in arguments
    logs = " ".join(path.read_text(errors="replace") for path in machine.home.logs.rglob("*.log"))
    assert not [secret for secret in secrets if secret in arguments]
    assert not [secret for secret in secrets if secret in logs]


@pytest.mark.skipif(sys.platform != "linux", reason="tasks are forked on Linux only")
def test_tasks_start_with_pytorch_imported(machine: Machine, first: Up) -> None:
    children = psutil.Process(machine.pids()["scheduler"]).children(recursive=True)
    workers = each(children, lambda child: child if "airflow worker" in " ".join(child.cmdline()) else None)
    files = each([worker for worker in workers if worker], lambda worker: str(worker.memory_maps()))
    assert files
    assert all("libtorch_cpu" in names for names in files)


def test_status_shows_every_process_healthy(machine: Machine, first: Up) -> None:
    status = machine.run("status")
    assert status.code == 0, status.output
    for name in (*(name for name in ports.PREFERRED if "." not in name), "dag-processor", "triggerer"):
        assert re.search(rf"^{name} +\d+ .*healthy", status.output, re.MULTILINE), name


def test_a_second_up_keeps_the_services_creates_no_duplicates_and_unpauses_the_dag(machine: Machine, first: Up) -> None:
    pids, artifacts, data, versions = (
        machine.pids(),
        machine.keys("artifacts"),
        machine.keys("data"),
        machine.versions(),
    )
    pause(machine)
    again = machine.run("up")
    assert again.code == 0, again.error
    assert "unpaused image_classifier, which was paused" in again.output
    assert f"{DIGITS_PREFIX} is up to date" in again.output
    assert "starting" not in again.output
    assert machine.pids() == pids
    assert machine.versions() == versions
    assert machine.keys("data") == data
    assert {key for key in machine.keys("artifacts") - artifacts if not key.endswith("/report.json")} == set()
    assert machine.report()["training_reused"]


def pause(machine: Machine) -> None:
    """Pause the DAG, as in the UI."""
    request(machine, "PATCH", "dags/image_classifier", {"is_paused": True})


def request(machine: Machine, method: str, path: str, content: Any = None) -> None:
    """Send a request to Airflow's API as the administrator."""
    client = logged_in(machine, "admin", machine.home.secrets.admin)
    client.request(method, path, json=content).raise_for_status()


def test_users_can_do_what_their_role_allows_until_they_are_removed(machine: Machine, first: Up) -> None:
    created = machine.run("user", "anna")
    assert created.code == 0, created.error
    assert created.output.startswith("created the viewer anna\n")
    viewer = logged_in(machine, "anna", password_in(created))
    assert viewer.get("dags").status_code == 200
    assert viewer.patch("dags/smoke_test", json={"is_paused": False}).status_code == 403
    assert viewer.get("connections").status_code == 403

    changed = machine.run("user", "anna", "--new-password", "--role", "user")
    assert changed.output.endswith("anna has the role user, within 30 s\n")
    assert token(machine, "anna", password_in(created)).status_code == 401
    assert token(machine, "anna", password_in(changed)).status_code == 201
    assert machine.run("user", "anna").output == "anna has the role user\n"

    op = logged_in(machine, "otto", password_in(machine.run("user", "otto", "--role", "op")))
    assert op.patch("dags/smoke_test", json={"is_paused": False}).status_code == 200
    assert op.get("connections").status_code == 200

    assert machine.run("user", "anna", "--remove").output == "deleted anna, who is logged out within 30 s\n"
    assert token(machine, "anna", password_in(changed)).status_code == 401


def test_the_administrator_and_unknown_users_are_not_removed(machine: Machine, first: Up) -> None:
    refused = machine.run("user", "admin", "--remove")
    assert (refused.code, refused.error) == (
        1,
        "error: admin is the administrator that the other commands log in as: choose another NAME\n",
    )
    unknown = machine.run("user", "unknown.user", "--remove")
    assert (unknown.code, unknown.error) == (
        1,
        "error: there is no user unknown.user: correct NAME, or see the users in Airflow's UI under Security\n",
    )


def test_a_connection_is_created_from_a_file_and_keeps_its_password_until_it_is_removed(
    machine: Machine, first: Up, tmp_path: Path
) -> None:
    file, key = tmp_path / "small.yaml", tmp_path / "key"
    file.write_text("{conn_type: openai, host: 'https://api.example.com/v1', extra: {model: small-1}}")
    key.write_text("s3cret-of-the-test\n")
    created = machine.run("connection", "small", "--file", str(file), "--key", str(key))
    assert (created.output, created.error) == ("created the connection small\n", "")
    assert "s3cret" in password_of(machine, "small")
    file.write_text("{conn_type: openai, host: 'https://api.example.com/v2', extra: {model: small-2}}")
    changed = machine.run("connection", "small", "--file", str(file))
    assert changed.output == "changed the connection small, which keeps its password\n"
    client = logged_in(machine, "admin", machine.home.secrets.admin)
    found = client.get("connections/small").json()
    assert (found["host"], json.loads(found["extra"])) == ("https://api.example.com/v2", {"model": "small-2"})
    assert "s3cret" in password_of(machine, "small")
    assert machine.run("connection", "small", "--remove").output == "deleted the connection small\n"
    gone = machine.run("connection", "small", "--remove")
    assert gone.error == "error: there is no connection small: correct NAME, or see Connections in Airflow's UI\n"


def password_of(machine: Machine, name: str) -> str:
    """Return a connection as tasks get it."""
    environment = airflow.environment(machine.home, machine.laptop.ports)
    command = [*airflow.PROGRAM, "connections", "get", name, "--output", "json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout


def password_in(up: Up) -> str:
    [password] = re.findall(r"^password   (\S+)$", up.output, re.MULTILINE)
    return str(password)


def token(machine: Machine, user: str, password: str) -> httpx.Response:
    url = f"http://127.0.0.1:{machine.laptop.ports['api-server']}/auth/token"
    return httpx.post(url, json={"username": user, "password": password}, timeout=30, trust_env=False)


def logged_in(machine: Machine, user: str, password: str) -> httpx.Client:
    """Return a client of Airflow's API."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{machine.laptop.ports['api-server']}/api/v2",
        headers={"Authorization": f"Bearer {token(machine, user, password).json()['access_token']}"},
        timeout=30,
        trust_env=False,
    )


def test_an_invalid_parameter_is_named_and_no_run_is_started(machine: Machine, first: Up) -> None:
    runs = machine.laptop.api().active_run("image_classifier")
    refused = machine.run("up", "--params", "epochs=many")
    assert refused.code == 1
    assert "error: invalid value for epochs in PARAMS" in refused.error
    assert len(refused.error.splitlines()) == 1
    assert machine.laptop.api().active_run("image_classifier") == runs is None


@contextmanager
def notified(machine: Machine) -> Iterator[Webhook]:
    """Run a webhook that the DAGs notify."""
    with webhook.running() as slack:
        request(machine, "POST", "connections", {"connection_id": "notifications", **slack.connection})
        yield slack
        request(machine, "DELETE", "connections/notifications")


def test_a_model_below_the_minimum_does_not_replace_the_champion_and_the_team_is_notified_once(
    machine: Machine, first: Up, tmp_path: Path
) -> None:
    """Train on noise, with a truncated file, an empty file and a file in another color mode."""
    champion = serving.champion(machine.home, machine.laptop.ports)
    for name in ("left", "right"):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for index in range(20):
            picture = Image.effect_noise((16, 16), 100)
            picture.save(tmp_path / "noise" / name / f"{index} ü.png")
    (tmp_path / "noise/left/empty.png").write_bytes(b"")
    whole = (tmp_path / "noise/left/0 ü.png").read_bytes()
    (tmp_path / "noise/left/truncated.png").write_bytes(whole[: len(whole) // 2])
    Image.new("CMYK", (16, 16), (10, 200, 30, 0)).save(tmp_path / "noise/right/cmyk.jpg")
    with notified(machine) as slack:
        failed = machine.run("up", "--images", str(tmp_path / "noise"), "--params", "epochs=1 minimum_accuracy=0.99")
        deadline = time.monotonic() + 5 * MINUTE
        while not slack.received and time.monotonic() < deadline:
            time.sleep(0.5)
    [(_, message)] = slack.received
    assert message["text"].startswith("*image_classifier failed*\nThe run manual__")
    assert " of image_classifier failed in gate. Open it in Airflow" in message["text"]
    assert failed.code == 1
    assert "failed in gate" in failed.error
    assert "still serves version" in failed.error
    assert (
        serving.champion(machine.home, machine.laptop.ports) == champion == serving.served_version(machine.laptop.ports)
    )
    quarantined = {key for key in machine.keys("data") if key.startswith("quarantine/")}
    assert {key.rsplit("/", 1)[1] for key in quarantined} == {"empty.png", "truncated.png"}


def test_a_model_of_the_users_images_becomes_the_champion(machine: Machine, first: Up, tmp_path: Path) -> None:
    for name, shape in (("ring", "ellipse"), ("box", "rectangle")):
        (tmp_path / "shapes.v2" / name).mkdir(parents=True)
        for index in range(40):
            picture = Image.new("RGBA", (64, 64), (255, 255, 255, 255))
            corner = (4 + index % 8, 4 + index // 8, 40 + index % 16, 40 + index // 4)
            getattr(ImageDraw.Draw(picture), shape)(corner, outline=(index, 0, 90, 255), width=5)
            picture.save(tmp_path / "shapes.v2" / name / str(index), "PNG")
    (tmp_path / "shapes.v2" / "ring" / "caf\udce9").write_bytes(b"")
    done = machine.run("up", "--images", str(tmp_path / "shapes.v2"), "--params", "minimum_accuracy=0.8 epochs=8.0")
    assert done.code == 0, done.error
    assert r"the name is not UTF-8: ring/caf\xe9" in done.error
    assert machine.report()["promoted"]
    assert machine.predict((tmp_path / "shapes.v2/ring/3").read_bytes()) == "ring"
    assert machine.predict((tmp_path / "shapes.v2/box/3").read_bytes()) == "box"


def test_the_demo_of_flights_replays_months_and_saves_the_pages(machine: Machine, first: Up) -> None:
    """Replay one month instead of five, of a model that is trained on the weeks after it."""
    calendar = flights.Calendar(date(2013, 1, 1), first_model=date(2013, 3, 26), months=[date(2013, 2, 1)])
    console = new_console()
    replay = flights.Replay(machine.laptop.api(), console, lambda _: None)
    [february] = replay.run(calendar)
    assert (february.month, february.version, february.requested) == ("February", "1", False)
    assert february.flights == 24_951
    assert february.auc > 0.7
    flights.show(console, machine.laptop, [february])
    saved = {path.name for path in (machine.home.results / "flights").iterdir()}
    pages = ("flight_features-partitions", "flight_monitor-monitor", "flight_scores-riskiest")
    assert saved >= {f"{page}.html" for page in pages}
    assert any(name.startswith("flight_model-") for name in saved)


def test_a_folder_of_documents_becomes_an_index_that_answers_its_questions(
    machine: Machine, first: Up, tmp_path: Path
) -> None:
    (tmp_path / "home.md").write_text("# Zuhause\n\n## Müll\n\nDer Restmüll wird am Dienstag abgeholt.\n")
    (tmp_path / "damaged.pdf").write_text("%PDF-1.7")
    question = "- {question: 'Wann wird der Restmüll abgeholt?', file: home.md, contains: am Dienstag}"
    (tmp_path / "questions.yaml").write_text(question)
    indexed = machine.run("up", "--documents", str(tmp_path), "--params", "language=german")
    assert indexed.code == 0, indexed.error
    for shown in (
        "answered by home.md, Zuhause > Müll:",
        "Der Restmüll wird am Dienstag abgeholt.",
        "hybrid     1.000",
    ):
        assert shown in indexed.output
    page = Path(re.search("^page +(.+)$", indexed.output, re.MULTILINE)[1])  # type: ignore[index]
    assert "damaged.pdf" in page.read_text()
    address = re.search("^ask +(.+)$", indexed.output, re.MULTILINE)[1]  # type: ignore[index]
    assert "Ask the documents" in httpx.get(address).text
    reply = httpx.post(f"{address}/ask", json={"question": "Wann wird der Restmüll abgeholt?"}, timeout=60).json()
    assert "am Dienstag abgeholt. [1]" in reply["answer"]
    assert (reply["sources"][0]["path"], reply["answered_by"]) == ("home.md", "quotes")


def test_after_kill_9_of_all_processes_up_recovers_with_nothing_lost(machine: Machine, first: Up) -> None:
    before = Kept.of(machine)
    for member in members(machine):
        member.kill()
    assert machine.run("status").code == 1
    started = time.monotonic()
    recovered = machine.run("up", "--no-run")
    print(f"recovered after {time.monotonic() - started:.1f} s")
    assert recovered.code == 0, recovered.error
    before.check(machine)


def test_mlflow_does_not_expose_files_of_its_user(machine: Machine, first: Up) -> None:
    url, password = mlflow.url(machine.laptop.ports), machine.home.secrets.mlflow_admin
    experiment = {"name": "outside", "artifact_location": machine.home.root.as_uri()}
    assert httpx.get(url).status_code == 401
    for login, status in ((None, 401), ((mlflow_users.ADMIN, "wrong"), 401), ((mlflow_users.ADMIN, password), 400)):
        answer = httpx.post(f"{url}/api/2.0/mlflow/experiments/create", json=experiment, auth=login)
        assert answer.status_code == status
    assert not [words for words in each(members(machine), lambda member: member.cmdline()) if password in str(words)]


def test_after_kill_9_of_one_process_and_the_loss_of_a_port_up_recovers_with_nothing_lost(
    machine: Machine, first: Up
) -> None:
    before, taken = Kept.of(machine), machine.laptop.ports["mlflow"]
    os.kill(machine.pids()["scheduler"], signal.SIGKILL)
    processes.stop(machine.home, "mlflow")
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(taken), "--bind", "127.0.0.1"], stderr=subprocess.DEVNULL
    ) as other:
        while port_is_free(taken):
            time.sleep(0.05)
        moved = machine.run("up", "--no-run")
        other.kill()
    assert moved.code == 0, moved.error
    assert machine.laptop.ports["mlflow"] != taken
    assert machine.run("status").code == 0
    before.check(machine)


def test_down_keeps_the_data_and_clean_deletes_it(machine: Machine, first: Up) -> None:
    running = members(machine)
    assert machine.run("down").code == 0
    assert not [process for process in running if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert (machine.home.database / "PG_VERSION").exists()
    assert machine.run("clean").code == 0
    assert not machine.home.root.exists()
