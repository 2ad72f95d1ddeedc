"""Show where the CPU time of a task goes: the chart's defaults and the stack `local` on the current cluster.

Prints the CPU time by component as the kubelet counts it, the imports of a task's process, and a limit: a pod of the
same image whose process ends at once. Run it with `make profile-task` on an otherwise idle machine, after
`make images STACK=local`.
"""

import argparse
import os
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from infra.documents import REPOSITORY
from infra.images import content, nodes
from tests.bench_cluster import CONTROL_PLANE, DEFAULTS, Figures, alone, both, echo, start_seconds, summaries
from tests.bench_home import print_machine
from tests.cluster.airflow_client import Airflow
from tests.cluster.stack import NAMESPACE, STACK, kubectl, wait_until

TASKS = "pods of tasks"
NODE = "node: kubelet, runtime, API server"
OTHERS = "database and other pods"
# The kubelet measures every ten to fifteen seconds.
SETTLING_SECONDS = 20

SUPERVISOR_IMPORTS = (
    "airflow.sdk.execution_time.execute_workload",
    "airflow.executors.workloads",
    "airflow.executors.base_executor",
    "airflow.sdk.execution_time.supervisor",
    "airflow.dag_processing.dagbag",
)
IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| +(\w+)", re.MULTILINE)
PACKAGES = 12


def main() -> None:
    """Run the profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=40, help="tasks of one second (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=6, help="starts of one task (default: %(default)s)")
    parser.add_argument("--pods", type=int, default=10, help="pods that end at once (default: %(default)s)")
    arguments = parser.parse_args()
    print_machine()
    profiles, starts, imports = {}, {}, list[tuple[str, float]]()
    with TemporaryDirectory() as folder, both({NAMESPACE: Figures(), DEFAULTS: Figures()}, Path(folder)):
        for namespace in (NAMESPACE, DEFAULTS):
            echo(f"{namespace}: {arguments.starts} single tasks, then {arguments.tasks} at once")
            with alone(namespace), Airflow(namespace) as airflow:
                starts[namespace], profiles[namespace] = profile(airflow, arguments.starts, arguments.tasks)
                imports = imports or imported()
        echo(f"the limit: {arguments.pods} pods that end at once")
        limit, cpu = smallest_pods(arguments.pods)
    report(profiles)
    echo(f"the limit, a pod that ends at once: {cpu:.2f} in the pod")
    echo("\nqueued to user code, median")
    for name, seconds in (("ours", starts[NAMESPACE]), ("defaults", starts[DEFAULTS]), ("the limit", limit)):
        echo(f"{name:36} {median(seconds):8.2f} s")
    report_imports(imports)
    echo(f"\n{arguments.tasks} tasks of one second; the CPU time of a task includes its share of the idle time")


def profile(airflow: Airflow, starts: int, tasks: int) -> tuple[list[float], dict[str, float]]:
    """Return the seconds from queued to user code of single tasks, and the CPU seconds per task of many by part."""
    wait_until(lambda: "quick" in airflow.dags(), "the DAG")
    airflow.finish("quick", airflow.trigger("quick"), 600)  # warm up the file system cache
    seconds = [measured for _ in range(starts) for measured in start_seconds(airflow, airflow.trigger("quick"))]
    time.sleep(SETTLING_SECONDS)
    before = cpu_seconds()
    airflow.finish("quick", airflow.trigger("quick", params={"tasks": tasks}), 3600)
    time.sleep(SETTLING_SECONDS)
    return seconds, per_unit(before, cpu_seconds(), tasks)


def smallest_pods(count: int) -> tuple[list[float], float]:
    """Return the seconds from creation to user code, and the CPU seconds in the pod, of pods that print the time."""
    image = f"{content.ON_NODES}/airflow:{content.tag('airflow', nodes=nodes.nodes_of(STACK))}"
    seconds = []
    time.sleep(SETTLING_SECONDS)
    before = cpu_seconds()
    for number in range(count):
        name, created = f"limit-{number}", time.time()
        kubectl("run", name, f"--image={image}", "--restart=Never", "-n", DEFAULTS, "--command", "--", "date", "+%s.%N")
        kubectl("wait", f"pod/{name}", "-n", DEFAULTS, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
        seconds.append(float(kubectl("logs", name, "-n", DEFAULTS)) - created)
        kubectl("delete", f"pod/{name}", "-n", DEFAULTS)
    time.sleep(SETTLING_SECONDS)
    return seconds, per_unit(before, cpu_seconds(), count)[TASKS]


def cpu_seconds() -> dict[str, float]:
    """Return the CPU seconds that each living pod, all pods and the nodes have used so far."""
    used = defaultdict[str, float](float)
    for summary in summaries():
        [pods] = [one for one in summary["node"]["systemContainers"] if one["name"] == "pods"]
        used["pods"] += pods["cpu"]["usageCoreNanoSeconds"] / 1e9
        used["nodes"] += summary["node"]["cpu"]["usageCoreNanoSeconds"] / 1e9
        for pod in summary["pods"]:
            used[f"pod {pod['podRef']['name']}"] += pod.get("cpu", {}).get("usageCoreNanoSeconds", 0) / 1e9
    return used


def per_unit(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """Return the CPU seconds between two measurements by part, divided by the number of tasks or pods.

    Pods that lived through neither measurement are those of tasks: the kubelet keeps their time in the sum of all pods.
    """
    used = {name: (after[name] - before[name]) / count for name in before.keys() & after.keys()}
    parts = dict.fromkeys((TASKS, *CONTROL_PLANE, OTHERS, NODE), 0.0)
    for name, seconds in used.items():
        if name.startswith("pod "):
            found = [one for one in CONTROL_PLANE if name.startswith(f"pod airflow-{one}")]
            parts[found[0] if found else OTHERS] += seconds
    parts[TASKS] = used["pods"] - sum(parts.values())
    parts[NODE] = used["nodes"] - used["pods"]
    return parts


def imported() -> list[tuple[str, float]]:
    """Return the top-level packages that the process of a task imports, with the seconds of each, longest first."""
    statement = f"import gc; gc.disable(); import {', '.join(SUPERVISOR_IMPORTS)}"
    command = ["env", "-u", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "python", "-X", "importtime", "-c", statement]
    script = '"$@" 2>&1 >/dev/null'
    where = ("-n", NAMESPACE, "deploy/airflow-triggerer", "-c", "triggerer")
    seconds = defaultdict[str, float](float)
    for microseconds, package in IMPORT.findall(kubectl("exec", *where, "--", "sh", "-c", script, "sh", *command)):
        seconds[package] += int(microseconds) / 1e6
    return sorted(seconds.items(), key=lambda item: -item[1])


def report(profiles: Mapping[str, Mapping[str, float]]) -> None:
    """Print the CPU seconds by part."""
    ours, defaults = profiles[NAMESPACE], profiles[DEFAULTS]
    echo(f"\n{'CPU seconds per task':36} {'ours':>8} {'defaults':>9}")
    for part in ours:
        echo(f"{part:36} {ours[part]:8.2f} {defaults[part]:9.2f}")
    echo(f"{'total':36} {sum(ours.values()):8.2f} {sum(defaults.values()):9.2f}")


def report_imports(imports: list[tuple[str, float]]) -> None:
    """Print the packages that take longest to import."""
    total = sum(seconds for _, seconds in imports)
    echo(f"\nimports of a task's process before it reads the DAG's file: {total:.2f} s")
    for package, seconds in imports[:PACKAGES]:
        echo(f"{package:36} {seconds:8.2f} s")
    echo(f"{f'{len(imports) - PACKAGES} others':36} {sum(seconds for _, seconds in imports[PACKAGES:]):8.2f} s")


if __name__ == "__main__":
    os.chdir(REPOSITORY)
    main()
