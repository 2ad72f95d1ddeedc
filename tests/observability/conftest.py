"""The real StatsD exporter and the real Prometheus with the metrics that Airflow sends."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
import platformdirs
import pytest
import yaml

from infra import helm_values
from infra.airflow import chart
from tests.servers import free_port

HERE = Path(__file__).parent
START_SECONDS = 120

Samples = dict[str, list[tuple[dict[str, str], float]]]
Query = Callable[[str], list[dict[str, Any]]]
T = TypeVar("T")


@dataclass(frozen=True)
class Exporter:
    """A running StatsD exporter."""

    statsd_port: int
    url: str

    def send(self, lines: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for line in lines.splitlines():
                client.sendto(line.encode(), ("127.0.0.1", self.statsd_port))

    def samples(self) -> Samples:
        """Return the metrics that Prometheus reads: the label sets and values by name.

        The parser of `prometheus_client` cannot be used: it changes the names of counters to the standard form.
        """
        found: Samples = {}
        for line in httpx.get(f"{self.url}/metrics", trust_env=False).text.splitlines():
            if sample := re.fullmatch(r"(\w+)(?:{(.*)})? (\S+)", line):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                found.setdefault(sample[1], []).append((labels, float(sample[3])))
        return found


def eventually(look: Callable[[], T], good: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + START_SECONDS
    while not good(found := look()):
        assert time.monotonic() < deadline, f"after {START_SECONDS} s there is only {found!r}"
        time.sleep(0.2)
    return found


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def running(command: list[str], url: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: answers(url), bool)
        yield
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def of_prometheus(program: str) -> str:
    return shutil.which(program) or pytest.skip(f"{program} is not on PATH: it comes with Debian's package prometheus")


@pytest.fixture(scope="session")
def promtool() -> str:
    return of_prometheus("promtool")


@pytest.fixture(scope="session")
def exporter_program() -> Path:
    """The exporter in the version of the chart, built once per machine."""
    version = chart.schema()["properties"]["images"]["properties"]["statsd"]["properties"]["tag"]["default"]
    program = Path(platformdirs.user_cache_dir("airflow-on-kubernetes")) / f"statsd-exporter-{version}/statsd_exporter"
    if not program.exists():
        if shutil.which("go") is None:
            pytest.skip("the StatsD exporter is built from its source, and there is no Go")
        program.parent.mkdir(parents=True, exist_ok=True)
        package = f"github.com/prometheus/statsd_exporter@{version}"
        with TemporaryDirectory(dir=program.parent) as folder:
            environment = os.environ | {"GOBIN": folder, "CGO_ENABLED": "0"}
            subprocess.run(["go", "install", package], env=environment, check=True)
            Path(folder, program.name).replace(program)  # whole at once: another worker may look for it
    return program


@pytest.fixture(scope="session")
def mappings() -> list[dict[str, Any]]:
    return list(helm_values.read(helm_values.SHARED)["statsd"]["overrideMappings"])


@contextmanager
def running_exporter(program: Path, mappings: list[dict[str, Any]], folder: Path) -> Iterator[Exporter]:
    (folder / "mappings.yml").write_text(yaml.safe_dump({"mappings": mappings}))
    found = Exporter(free_port(socket.SOCK_DGRAM), f"http://127.0.0.1:{free_port()}")
    command = [
        str(program),
        f"--statsd.mapping-config={folder / 'mappings.yml'}",
        f"--statsd.listen-udp=127.0.0.1:{found.statsd_port}",
        "--statsd.listen-tcp=",
        f"--web.listen-address={found.url.removeprefix('http://')}",
        "--log.level=error",
    ]
    with running(command, f"{found.url}/metrics"):
        yield found


@pytest.fixture(scope="session")
def recorded() -> str:
    """The metrics that Airflow sent on Kubernetes for a DAG with a successful and a failed task, each once."""
    return (HERE / "recorded.statsd").read_text()


def send_registry(port: int, home: Path) -> None:
    """Send every metric in Airflow's list, with the settings of the chart's values."""
    settings = helm_values.airflow_settings()["metrics"]
    environment = {f"AIRFLOW__METRICS__{option.upper()}": value for option, value in settings.items()} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(port),
    }
    subprocess.run([sys.executable, str(HERE / "send_registry.py")], env=os.environ | environment, check=True)


@pytest.fixture(scope="session")
def samples(
    exporter_program: Path, mappings: list[dict[str, Any]], recorded: str, tmp_path_factory: pytest.TempPathFactory
) -> Samples:
    """The metrics of the exporter after Airflow sent every metric in its list and those of a recorded run."""
    folder = tmp_path_factory.mktemp("exporter")
    with running_exporter(exporter_program, mappings, folder) as exporter:
        send_registry(exporter.statsd_port, folder)
        exporter.send(recorded)
        # The last recorded metric is also in Airflow's list of metrics.
        return eventually(exporter.samples, lambda found: len(found.get("airflow_triggers_running", [])) == 2)


@pytest.fixture(scope="session")
def samples_after_silence(
    exporter_program: Path, mappings: list[dict[str, Any]], recorded: str, tmp_path_factory: pytest.TempPathFactory
) -> Samples:
    """The metrics of the exporter after its expiry time, here one second, without new values."""
    hasty = [mapping | ({"ttl": "1s"} if "ttl" in mapping else {}) for mapping in mappings]
    with running_exporter(exporter_program, hasty, tmp_path_factory.mktemp("exporter")) as exporter:
        exporter.send(recorded)
        eventually(exporter.samples, lambda found: "airflow_triggers_running" in found)
        return eventually(exporter.samples, lambda found: "airflow_triggers_running" not in found)


@pytest.fixture(scope="session")
def query(
    exporter_program: Path, mappings: list[dict[str, Any]], recorded: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Query]:
    """Query a Prometheus that scraped the exporter for some seconds while Airflow sent metrics."""
    program = of_prometheus("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    url = f"http://127.0.0.1:{free_port()}"

    def ask(expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, trust_env=False).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        return list(answer["data"]["result"])

    with running_exporter(exporter_program, mappings, folder) as exporter:
        target = {"targets": [exporter.url.removeprefix("http://")], "labels": {"namespace": "airflow"}}
        configuration = {
            "global": {"scrape_interval": "500ms"},
            "scrape_configs": [{"job_name": "airflow", "static_configs": [target]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
            "--log.level=error",
        ]
        send_registry(exporter.statsd_port, folder)
        with running(command, f"{url}/-/ready"):

            def scraped() -> list[dict[str, Any]]:
                exporter.send(recorded)
                return ask("count_over_time(airflow_scheduler_heartbeat_total[1m]) > 5")

            eventually(scraped, bool)
            yield ask
