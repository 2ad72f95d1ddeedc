"""Releases through two stacks in one cluster, from a feature branch to prod, and a rollback.

Each stack has a namespace, a branch of one bare repository and a path in one registry. The tests run the commands of
the make targets, but use Helm instead of Pulumi's engine.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from infra.documents import REPOSITORY
from infra.existing_cluster.context import current_context
from infra.existing_cluster_names import platform_namespace
from infra.settings import PROJECT
from ops.plan.resources import Recording
from tests.servers import free_port, image_registry

from .airflow_client import Airflow
from .conftest import ready
from .stack import deploy, get, uninstall, wait_until

T = TypeVar("T")
U = TypeVar("U")

# In a longer chain a release takes the same step again; tests/releases has one of three stacks.
FIRST, LAST = "dev", "prod"
BRANCHES = {FIRST: "dev", LAST: "main"}
RUN_SECONDS = 300
CONTROL_PLANE = ("scheduler", "apiServer", "dagProcessor", "triggerer")

# Images without a workload: the test is about copying their bytes.
THIN = "ARG AIRFLOW_IMAGE\nFROM ${AIRFLOW_IMAGE}\n"
VERSION_FILE = "images/airflow/lib/image_version.py"
DAG_FILE = "dags/greeting/greeting_dag.py"
DAG = """
from airflow.sdk import dag, task

@dag(dag_id="greeting", schedule=None, catchup=False)
def greeting():
    @task
    def say():
        from image_version import VERSION
        return f"{word} {{VERSION}}"
    say()

greeting()
"""

if missing := [name for name in ("docker-registry", "skopeo") if shutil.which(name) is None]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)


def namespace_of(stack: str) -> str:
    return f"release-{stack}"


@dataclass(frozen=True)
class Team:
    """A clone of a team's repository, and what of its two stacks is in the cluster that they share."""

    folder: Path
    deployed: dict[str, Recording] = field(default_factory=dict)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def run(self, *arguments: str) -> str:
        """Run a command of `ops` in the clone."""
        command = [sys.executable, "-m", "ops", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            command, check=False, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        text = done.stdout.decode()
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{text[-3000:]}"
        return text

    def recorded(self, stack: str) -> Recording:
        """Return the resources of the clone's program for the release that it would deploy."""
        command = [sys.executable, "-m", "tests.cluster.admitted_recording", stack]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(command, check=False, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return Recording.from_json(done.stdout)

    def commit(self, files: dict[str, str], message: str) -> None:
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def check_out(self, branch: str) -> None:
        self.git("fetch", "--quiet", "origin")
        self.git("checkout", "--quiet", "-B", branch, f"origin/{branch}")

    def deliver(self, stack: str) -> None:
        """Run the steps of a stack's pipeline after its branch has moved."""
        self.check_out(BRANCHES[stack])
        if stack == FIRST:
            self.run("images", stack)
        self.deployed[stack] = self.recorded(stack)
        deploy(self.deployed[stack])
        namespace = namespace_of(stack)
        wait_until(lambda: ready(platform_namespace(namespace)) and ready(namespace), stack, seconds=600)
        self.run("smoke", stack)
        self.run("release", stack)

    def promote(self, source: str, target: str) -> str:
        return self.run("promote", source, target)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an empty registry on this machine, which is also the node."""
    folder = tmp_path_factory.mktemp("registry")
    with image_registry(folder) as address:
        yield address
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an empty bare repository, valid for pods and for this machine."""
    folder = tmp_path_factory.mktemp("remotes")
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder / "team.git")], check=True)
    node = get("nodes")["items"][0]["status"]["addresses"]
    host = next(address["address"] for address in node if address["type"] == "InternalIP")
    port = free_port()
    command = ["git", "daemon", "--export-all", "--enable=receive-pack", f"--listen={host}", f"--port={port}"]
    with subprocess.Popen([*command, "--reuseaddr", f"--base-path={folder}", str(folder)]) as server:
        yield f"git://{host}:{port}/team.git"
        server.terminate()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, registry: str, remote: str) -> Iterator[Team]:
    """Yield the clone, on a branch at the first commit of dev; delete the stacks afterwards."""
    team = Team(tmp_path_factory.mktemp("team") / "clone")
    copy_repository(team.folder)
    for stack, branch in BRANCHES.items():
        write_stack(team.folder, stack, branch, registry, remote)
    (team.folder / "Pulumi.staging.yaml").unlink()
    shutil.rmtree(team.folder / "dags" / "image_classifier")
    for name in ("ml", "serving"):
        (team.folder / "images" / name / "Dockerfile").write_text(THIN)
    subprocess.run(["git", "init", "--quiet", "--initial-branch", BRANCHES[FIRST], str(team.folder)], check=True)
    for key, value in {"user.name": "Test", "user.email": "test@localhost"}.items():
        team.git("config", key, value)
    team.git("remote", "add", "origin", remote)
    team.commit({VERSION_FILE: "VERSION = 1\n", DAG_FILE: DAG.format(word="hello")}, "Begin")
    team.git("push", "--quiet", "origin", BRANCHES[FIRST])
    yield team
    at_once(partial(uninstall, wait=False), team.deployed.values())


def copy_repository(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(lambda name: (REPOSITORY / name).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, folder / name)


def write_stack(folder: Path, stack: str, branch: str, registry: str, remote: str) -> None:
    """Fit a stack to a small cluster, and to this chain."""
    gates = {"tests": False, "plan_review": False, "soak_hours": 0, "upgrade_rehearsal": True}
    settings = {
        "contexts": [current_context()],
        "namespace": namespace_of(stack),
        "registry": f"{registry}/{stack}",
        "dags": {"repository": remote, "branch": branch},
        "release": {"after": FIRST, "gates": gates} if stack == LAST else {},
        "tasks": {"max_pods": 4, "max_cpus": 4, "max_memory_gib": 4},
    }
    (folder / f"Pulumi.{stack}.yaml").write_text(
        yaml.safe_dump({"config": {f"{PROJECT}:{key}": value for key, value in settings.items()}})
    )
    values = yaml.safe_load((folder / "helm-values" / "airflow-local.yaml").read_text())
    for component in CONTROL_PLANE:
        values[component]["resources"]["requests"]["cpu"] = "10m"  # otherwise two stacks do not fit on a small node
    (folder / "helm-values" / f"airflow-{stack}.yaml").write_text(yaml.safe_dump(values))


def at_once(do: Callable[[T], U], things: Iterable[T]) -> list[U]:
    """Return what is done with each thing, side by side: most of it is waiting."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(do, things))


def answers() -> dict[str, str]:
    """Return what each stack's DAG answers."""
    return dict(zip(BRANCHES, at_once(answer_of, BRANCHES), strict=True))


def answer_of(stack: str) -> str:
    """Run the DAG, and return what its task logs about the DAG and its image."""
    with Airflow(namespace_of(stack)) as airflow:
        wait_until(lambda: "greeting" in airflow.dags(), "the DAG")
        run = airflow.trigger("greeting")
        assert airflow.finish("greeting", run, RUN_SECONDS) == "success"
        return str(airflow.get(f"dags/greeting/dagRuns/{run}/taskInstances/say/xcomEntries/return_value")["value"])


def image_ids(stack: str) -> set[str]:
    """Return the image digests of the stack's schedulers, as the kubelet reports them."""
    pods = get("pods", "--selector", "component=scheduler", namespace=namespace_of(stack))["items"]
    statuses = [status for pod in pods for status in pod["status"]["containerStatuses"]]
    return {status["imageID"].rpartition("@")[2] for status in statuses if status["name"] == "scheduler"}


def test_what_was_built_for_dev_comes_to_prod(team: Team) -> None:
    started = time.monotonic()
    team.deliver(FIRST)
    team.promote(FIRST, LAST)
    team.deliver(LAST)
    print(f"first release in both stacks after {time.monotonic() - started:.0f} s")
    assert answers() == {FIRST: "hello 1", LAST: "hello 1"}


def test_both_stacks_run_the_same_bytes(team: Team) -> None:
    assert len(set.union(*(image_ids(stack) for stack in BRANCHES))) == 1


def test_a_change_of_dag_and_image_travels_from_a_feature_branch_to_prod(team: Team) -> None:
    before = image_ids(LAST)
    team.check_out(BRANCHES[FIRST])
    team.git("checkout", "--quiet", "-B", "feature")
    team.commit({VERSION_FILE: "VERSION = 2\n", DAG_FILE: DAG.format(word="welcome")}, "Welcome people")
    team.check_out(BRANCHES[FIRST])
    team.git("merge", "--quiet", "feature")
    team.git("push", "--quiet", "origin", BRANCHES[FIRST])
    team.deliver(FIRST)
    team.promote(FIRST, LAST)
    team.deliver(LAST)
    assert answer_of(LAST) == "welcome 2"
    assert image_ids(LAST) != before
    assert image_ids(LAST) == image_ids(FIRST)


def test_a_rollback_brings_back_the_dag_and_the_image(team: Team) -> None:
    before = image_ids(LAST)
    team.run("rollback", LAST)
    team.deliver(LAST)
    assert answers() == {FIRST: "welcome 2", LAST: "hello 1"}
    assert image_ids(LAST) != before
