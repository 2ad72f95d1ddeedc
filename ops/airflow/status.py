"""Show a stack's pods and their problems, the running commit, and DAG import errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from infra.errors import OperationError
from ops.airflow import dags, ui
from ops.console import Echo
from ops.kubernetes.diagnosis import Problem
from ops.stacks.stack import Stack


def show(stack: Stack, echo: Echo) -> None:
    """Print the status of a stack.

    Raises:
        OperationError: The stack is not in the cluster, or has problems. They are printed first.
    """
    cluster = stack.cluster
    echo(f"cluster    {cluster.context}")
    there = set(cluster.namespaces())
    if stack.namespace not in there:
        raise OperationError(
            f"{stack.name} is not deployed in the cluster {cluster.context} (no namespace {stack.namespace}): run "
            f"`make deploy STACK={stack.name}`"
        )
    problem_count = 0
    for name in stack.namespaces:
        namespace = cluster.namespace(name)
        problems = stack.diagnosis.problems(namespace, partial(cluster.log, name))
        echo(f"namespace  {name}")
        for line in pod_lines(namespace.pods, problems):
            echo(f"  {line}")
        problem_count += len(problems)
    echo(f"DAGs       {stack.diagnosis.repository} {stack.diagnosis.branch}: {dags.revision(stack)}")
    broken = _import_errors(stack)
    for error in broken:
        echo(f"  broken   {error}")
    echo(f"open       make ui STACK={stack.name}")
    if problem_count or broken:
        raise OperationError(f"{problem_count} problems and {len(broken)} broken DAG files: see the output above")


def _import_errors(stack: Stack) -> list[str]:
    try:
        with ui.airflow_forwarded(stack) as login, ui.client(login) as api:
            return ui.import_errors(api)
    except OperationError as error:
        return [f"unknown: {error}"]


def pod_lines(pods: Sequence[Mapping[str, Any]], problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line for each pod with its images' tags, followed by its problems, then all other problems."""
    width = max((len(pod["metadata"]["name"]) for pod in pods), default=0)
    left = list(problems)
    for pod in pods:
        name = pod["metadata"]["name"]
        yield f"{name:{width}}  {state(pod):18}  {', '.join(images(pod))}"
        own = [problem for problem in problems if problem.subject == f"pod {name}"]
        left = [problem for problem in left if problem not in own]
        yield from (f"  {problem.sentence}" for problem in own)
    yield from (str(problem) for problem in left)


def state(pod: Mapping[str, Any]) -> str:
    """Return a pod's phase, its number of ready containers, and its restarts."""
    containers = pod.get("status", {}).get("containerStatuses") or ()
    phase = pod.get("status", {}).get("phase", "Unknown")
    if phase != "Running":
        return str(phase)
    ready = sum(1 for container in containers if container.get("ready"))
    restarts = sum(container.get("restartCount", 0) for container in containers)
    return f"Running {ready}/{len(containers)}" + (f", {restarts} restarts" if restarts else "")


def images(pod: Mapping[str, Any]) -> list[str]:
    """Return the short names and tags of a pod's images, without duplicates."""
    found = [container["image"].partition("@")[0].rpartition("/")[2] for container in pod["spec"]["containers"]]
    return list(dict.fromkeys(found))
