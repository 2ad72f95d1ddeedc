"""Measure Airflow on the current cluster: the chart's defaults and the stack `local`, alternately.

Both run the same DAGs from the same Git server on the same database server. While one is measured, the other is scaled
to zero. Prints a table. Run it with `make bench-cluster` on an otherwise idle machine, after `make images STACK=local`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from infra.airflow import chart
from infra.documents import REPOSITORY
from tests.bench_home import print_machine
from tests.cluster.airflow_client import Airflow
from tests.cluster.conftest import copy_dags, ready
from tests.cluster.stack import (
    BRANCH,
    NAMESPACE,
    PLATFORM_NAMESPACE,
    deploy,
    get,
    kubectl,
    push,
    recorded,
    uninstall,
    wait_until,
)

DEFAULTS = "bench-defaults"
CONTROL_PLANE = ("scheduler", "api-server", "dag-processor", "triggerer")
PASSWORD = "bench"

# The minimal values for the chart: the executor, the version, a database and the DAGs.
MINIMAL_VALUES = {
    "airflowVersion": "3.3.2",
    "defaultAirflowTag": "3.3.2",
    "executor": "KubernetesExecutor",
    "postgresql": {"enabled": False},
    "redis": {"enabled": False},
    "data": {
        "metadataConnection": {
            "user": "bench",
            "pass": PASSWORD,
            "host": f"postgres.{PLATFORM_NAMESPACE}",
            "db": "bench",
        }
    },
    "config": {"core": {"dags_are_paused_at_creation": "False"}},
    "dags": {
        "gitSync": {
            "enabled": True,
            "repo": f"git://git.{PLATFORM_NAMESPACE}/dags.git",
            "branch": BRANCH,
            "ref": BRANCH,
            "subPath": "dags",
        }
    },
}


@dataclass
class Figures:
    """The measurements of one of the two."""

    ready_seconds: float = 0.0
    start_seconds: list[float] = field(default_factory=list)
    makespan_seconds: float = 0.0
    idle_millicores: list[float] = field(default_factory=list)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=6, help="starts of one task per round (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=100, help="tasks of one second (default: %(default)s)")
    parser.add_argument("--idle", type=int, default=60, help="idle seconds per round (default: %(default)s)")
    arguments = parser.parse_args()
    figures = {NAMESPACE: Figures(), DEFAULTS: Figures()}
    with TemporaryDirectory() as folder, both(figures, Path(folder)):
        for number in range(arguments.rounds):
            for namespace in (NAMESPACE, DEFAULTS):
                echo(f"round {number + 1}: {namespace}")
                with alone(namespace), Airflow(namespace) as airflow:
                    measure(airflow, namespace, figures[namespace], arguments, last=number + 1 == arguments.rounds)
    report(figures, arguments)


@contextmanager
def both(figures: dict[str, Figures], folder: Path) -> Iterator[None]:
    """Deploy ours, then the chart's defaults, each in an empty namespace; remove both at the end."""
    recording = recorded()
    try:
        started = time.monotonic()
        deploy(recording)
        wait_until(lambda: available(NAMESPACE), "the user interface", 900)
        figures[NAMESPACE].ready_seconds = time.monotonic() - started
        echo(f"ours, database and object store included: user interface after {figures[NAMESPACE].ready_seconds:.0f} s")
        wait_until(lambda: ready(PLATFORM_NAMESPACE), "the platform")
        copy_dags(folder)
        push(folder, {})
        scale(NAMESPACE, 0)
        create_database()
        started = time.monotonic()
        install_defaults()
        wait_until(lambda: available(DEFAULTS), "the user interface", 900)
        figures[DEFAULTS].ready_seconds = time.monotonic() - started
        echo(f"the chart's defaults, without a database: user interface after {figures[DEFAULTS].ready_seconds:.0f} s")
        yield
    finally:
        kubectl("delete", "namespace", DEFAULTS, "--wait", "--ignore-not-found")
        uninstall(recording)


def available(namespace: str) -> bool:
    """Return whether the api-server is available."""
    found = get("deployments", "--selector", "component=api-server", namespace=namespace)["items"]
    return bool(found) and found[0]["status"].get("availableReplicas", 0) > 0


def create_database() -> None:
    """Create a database in the platform's server, and allow access from the benchmark's namespace."""
    access = {"podSelector": {}, "policyTypes": ["Ingress"]}
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": DEFAULTS}}}]
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "benchmark", "namespace": PLATFORM_NAMESPACE},
        "spec": {**access, "ingress": [{"from": peers}]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(policy))
    for statement in (f"CREATE ROLE bench LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE bench OWNER bench"):
        psql = 'PGPASSWORD="$POSTGRES_PASSWORD" psql --host localhost --username postgres'
        kubectl("exec", "-i", "-n", PLATFORM_NAMESPACE, "postgres-0", "--", "sh", "-c", psql, stdin=f"{statement};")


def install_defaults() -> None:
    """Install the chart as described in its README."""
    command = ["helm", "install", "airflow", str(chart.archive()), "--namespace", DEFAULTS, "--create-namespace"]
    subprocess.run([*command, "--values", "-", "--timeout", "15m"], input=yaml.safe_dump(MINIMAL_VALUES), text=True,
                   check=True, stdout=subprocess.DEVNULL)  # fmt: skip


@contextmanager
def alone(namespace: str) -> Iterator[None]:
    """Start one of the two and stop the other."""
    for other in (NAMESPACE, DEFAULTS):
        if other != namespace:
            scale(other, 0)
    scale(namespace, 1)
    wait_until(lambda: ready(namespace), f"Airflow in {namespace}", 600)
    yield


def scale(namespace: str, replicas: int) -> None:
    """Scale all components of an Airflow, and wait until stopped pods are gone."""
    for item in get("deployments,statefulsets", "--selector", "tier=airflow", namespace=namespace)["items"]:
        name = f"{item['kind'].lower()}/{item['metadata']['name']}"
        kubectl("scale", name, f"--replicas={replicas}", "-n", namespace)
    if replicas == 0:
        wait_until(lambda: not living(namespace), f"the end of {namespace}", 300)


def living(namespace: str) -> list[str]:
    """Return the names of Airflow's pods that have not ended."""
    pods = get("pods", "--selector", "tier=airflow", namespace=namespace)["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]


def measure(airflow: Airflow, namespace: str, figures: Figures, arguments: argparse.Namespace, *, last: bool) -> None:
    """Measure one round."""
    wait_until(lambda: "quick" in airflow.dags(), "the DAG")
    airflow.finish("quick", airflow.trigger("quick"), 600)  # warm up the file system cache
    before, started = cpu_seconds(namespace), time.monotonic()
    time.sleep(arguments.idle)
    figures.idle_millicores.append(1000 * (cpu_seconds(namespace) - before) / (time.monotonic() - started))
    echo(f"  idle control plane: {figures.idle_millicores[-1]:.0f} millicores")
    for _ in range(arguments.starts):
        figures.start_seconds += start_seconds(airflow, airflow.trigger("quick"))
    echo(f"  queued to user code: {', '.join(f'{seconds:.1f}' for seconds in figures.start_seconds)} s")
    if last:
        run = airflow.trigger("quick", params={"tasks": arguments.tasks})
        ended = airflow.finish("quick", run, 3600)
        found = airflow.get(f"dags/quick/dagRuns/{run}")
        figures.makespan_seconds = seconds_between(found["start_date"], found["end_date"])
        states = Counter(task["state"] for task in airflow.tasks("quick", run))
        echo(f"  {arguments.tasks} tasks of one second: {ended} after {figures.makespan_seconds:.0f} s, {dict(states)}")


def start_seconds(airflow: Airflow, run: str) -> list[float]:
    """Return the seconds from the queueing of a run's task to its first line of user code."""
    airflow.finish("quick", run, 600)
    task = next(task for task in airflow.tasks("quick", run) if task["task_id"] == "one_second")
    path = f"dags/quick/dagRuns/{run}/taskInstances/one_second/xcomEntries/return_value"
    began = airflow.get(path, map_index=task["map_index"])["value"]
    return [seconds_between(task["queued_when"], began)]


def seconds_between(earlier: str, later: str) -> float:
    """Return the seconds between two times in ISO format."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def cpu_seconds(namespace: str) -> float:
    """Return the CPU time that the control plane's pods have used so far, as reported by the kubelet."""
    total = 0
    for summary in summaries():
        for pod in summary["pods"]:
            mine = pod["podRef"]["namespace"] == namespace
            if mine and any(pod["podRef"]["name"].startswith(f"airflow-{name}") for name in CONTROL_PLANE):
                total += sum(container["cpu"]["usageCoreNanoSeconds"] for container in pod.get("containers", []))
    return total / 1e9


def summaries() -> Iterator[Any]:
    """Yield what the kubelet of each node has measured."""
    for node in get("nodes")["items"]:
        yield json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"))


def report(figures: dict[str, Figures], arguments: argparse.Namespace) -> None:
    """Print the table."""
    ours, defaults = figures[NAMESPACE], figures[DEFAULTS]
    rows = [
        ("empty namespace to user interface (ours: with database), s", ours.ready_seconds, defaults.ready_seconds),
        ("queued to user code, p50, s", median(ours.start_seconds), median(defaults.start_seconds)),
        ("queued to user code, p95, s", p95(ours.start_seconds), p95(defaults.start_seconds)),
        (f"{arguments.tasks} tasks of one second, s", ours.makespan_seconds, defaults.makespan_seconds),
        ("idle control plane, millicores", median(ours.idle_millicores), median(defaults.idle_millicores)),
    ]
    print_machine()
    echo(f"{len(ours.start_seconds)} starts each\n")
    echo(f"{'':60} {'ours':>8} {'defaults':>9} {'ratio':>6}")
    for name, mine, other in rows:
        echo(f"{name:60} {mine:8.1f} {other:9.1f} {other / mine:6.2f}")


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1]


def echo(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stdout, flush=True)


if __name__ == "__main__":
    os.chdir(REPOSITORY)
    main()
