"""Deploy the stack `local` to the current cluster without Pulumi's engine, by applying the program's resources.

Helm installs the chart with the program's values.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.documents import REPOSITORY
from infra.settings import PROJECT
from ops.plan.manifests import CHART_TYPE, Object, own_objects
from ops.plan.recording import record
from ops.plan.resources import Recording

STACK = "local"
NAMESPACE, PLATFORM_NAMESPACE, TASKS_NAMESPACE = "airflow", "airflow-platform", "airflow-tasks"
BRANCH = "local"
FIRST = ("Namespace", "PriorityClass")
PATIENCE_SECONDS = 300


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr[-2000:]}"
    return done.stdout


def get(kind: str, *arguments: str, namespace: str = NAMESPACE) -> Any:
    return json.loads(kubectl("get", kind, "-n", namespace, "-o", "json", *arguments))


def apply(objects: Iterable[Object], *arguments: str) -> None:
    text = yaml.safe_dump_all(objects)
    kubectl("apply", "--server-side", "--force-conflicts", *arguments, "-f", "-", stdin=text)


def wait_until(
    condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS, *, interval: float = 1
) -> Any:
    """Wait until a condition is true, and return its value; look every `interval` seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still waiting for {what}"
        time.sleep(interval)
    return answer


def recorded() -> Recording:
    return record(STACK, reveal=True)


def project(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write a project whose stack `local` has further settings."""
    for name in ("Pulumi.yaml", "infra"):
        (folder / name).symlink_to(REPOSITORY / name)
    stack = yaml.safe_load((REPOSITORY / f"Pulumi.{STACK}.yaml").read_text())
    stack["config"] |= {f"{PROJECT}:{name}": value for name, value in settings.items()}
    (folder / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump(stack))
    return folder


def deploy(recording: Recording, changes: tuple[str, ...] = ()) -> None:
    """Deploy the program's resources; `changes` are further values in the format of Helm's --set."""
    objects = own_objects(recording)
    jobs = [item for item in objects if item["kind"] == "Job"]
    timeout = f"--timeout={PATIENCE_SECONDS}s"
    apply(item for item in objects if item["kind"] in FIRST)
    apply(item for item in objects if item["kind"] not in (*FIRST, "Job"))
    # As Pulumi does. The database must be there before what uses it: Kubernetes is slow to retry what has failed.
    for item in objects:
        if item["kind"] == "StatefulSet":
            kubectl("rollout", "status", *reference(item), timeout)
    for item in jobs:
        # A Job is immutable: Pulumi replaces it, but kubectl and Helm would fail.
        kubectl("delete", *reference(item), "--ignore-not-found")
    apply(jobs)
    for item in jobs:
        kubectl("wait", "--for=condition=complete", *reference(item), timeout)
    for chart in recording.of_type(CHART_TYPE):
        install(chart.inputs, changes)


def reference(item: Object) -> tuple[str, ...]:
    """Return the arguments that name an object."""
    return f"{item['kind']}/{item['metadata']['name']}", "--namespace", item["metadata"]["namespace"]


def install(chart: Any, changes: tuple[str, ...]) -> None:
    kubectl("delete", "job", "--selector", "heritage=Helm", "-n", chart["namespace"], "--ignore-not-found")
    command = ["helm", "upgrade", "--install", chart["name"], chart["chart"], "--namespace", chart["namespace"]]
    settings = [argument for change in changes for argument in ("--set", change)]
    subprocess.run(
        [*command, "--values", "-", *settings],
        input=json.dumps(chart["values"]),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def uninstall(recording: Recording, *, wait: bool = True) -> None:
    """Delete all objects by name, and wait until they are gone unless told otherwise."""
    for chart in recording.of_type(CHART_TYPE):
        name, namespace = chart.inputs["name"], chart.inputs["namespace"]
        subprocess.run(["helm", "uninstall", name, "--namespace", namespace, f"--wait={json.dumps(wait)}"], check=True)
    text = yaml.safe_dump_all(own_objects(recording))
    kubectl("delete", "--ignore-not-found", f"--wait={json.dumps(wait)}", "-f", "-", stdin=text)


def load(image: str, other: str) -> None:
    """Load a locally built image onto the node under another name, as `make images` does."""
    subprocess.run([*shlex.split(os.environ["IMAGE_LOAD"]), image, other], check=True)


def push(folder: Path, dags: dict[str, str]) -> str:
    """Push the repository's DAGs and further files under dags/ to the cluster's Git server; return the commit."""
    for name, text in dags.items():
        (folder / "dags" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "dags" / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "test"], check=True)
    remote = f"ext::kubectl exec -i -n {PLATFORM_NAMESPACE} git-0 -c git -- %S /git/dags.git"
    subprocess.run(
        [*git, "-c", "protocol.ext.allow=always", "push", "--quiet", "--force", remote, f"HEAD:refs/heads/{BRANCH}"],
        check=True,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
    )
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
