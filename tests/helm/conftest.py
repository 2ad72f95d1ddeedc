"""The Kubernetes objects of each stack, with the chart rendered offline."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from infra.airflow_names import tasks_namespace
from ops.plan.manifests import Object, objects, pods
from ops.plan.recording import stacks
from tests.recordings import recorded

STACKS = stacks()


@cache
def stack_objects(stack: str) -> tuple[Object, ...]:
    return tuple(objects(recorded(stack, reveal=True)))


@pytest.fixture(scope="session", params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", name="objects")
def objects_(stack: str) -> tuple[Object, ...]:
    return stack_objects(stack)


def of_kind(objects: tuple[Object, ...], *kinds: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] in kinds}


def all_pods(objects: tuple[Object, ...]) -> Iterator[tuple[str, Any]]:
    """Yield each pod spec with the name of its owner."""
    for item in objects:
        for pod in pods(item):
            yield f"{item['kind']} {item['metadata']['name']}", pod


def namespace_of_pods(item: Object) -> str:
    """Return the namespace of the pods of an object; the pod template of tasks is in a ConfigMap of Airflow's."""
    namespace = str(item["metadata"]["namespace"])
    return tasks_namespace(namespace) if item["kind"] == "ConfigMap" else namespace


def containers(pod: Any) -> list[Any]:
    return [*pod.get("initContainers", []), *pod["containers"]]
