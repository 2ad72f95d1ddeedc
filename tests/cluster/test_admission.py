"""Server-side validation of every object of every stack, in namespaces that enforce `restricted`."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ops.doctor.kinds import own_apis
from ops.kubernetes.cluster import NotFoundError
from ops.plan.manifests import Object, objects, pods
from ops.plan.recording import record, stacks
from ops.stacks.resolve import resolve

from .stack import STACK, apply, kubectl

STACKS = stacks()
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}

# EKS Auto Mode provides these kinds; here their schema accepts anything.
CUSTOM_KINDS = {
    "nodepools.karpenter.sh": ("karpenter.sh", "v1", "NodePool", "Cluster"),
    "nodeclasses.eks.amazonaws.com": ("eks.amazonaws.com", "v1", "NodeClass", "Cluster"),
    "applicationnetworkpolicies.networking.k8s.aws": (
        *("networking.k8s.aws", "v1alpha1", "ApplicationNetworkPolicy", "Namespaced"),
    ),
}


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}


def custom_resource_definition(name: str, group: str, version: str, kind: str, scope: str) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"kind": kind, "plural": name.partition(".")[0], "singular": kind.lower(), "listKind": f"{kind}List"}
    versions = [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": group, "scope": scope, "names": names, "versions": versions},
    }


@pytest.fixture(scope="module")
def kinds() -> Iterator[None]:
    definitions = [custom_resource_definition(name, *rest) for name, rest in CUSTOM_KINDS.items()]
    apply(definitions)
    kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in CUSTOM_KINDS))
    yield
    kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(definitions))


@pytest.fixture(scope="module", params=STACKS)
def stack_objects(request: pytest.FixtureRequest, kinds: None) -> Iterator[list[Object]]:
    """Return the objects of a stack, moved to existing namespaces of this test."""
    found = objects(record(request.param, reveal=True))
    own = {item["metadata"]["name"]: f"{request.param}-{item['metadata']['name']}" for item in found
           if item["kind"] == "Namespace"}  # fmt: skip
    apply(namespace(name) for name in own.values())
    yield [moved(item, own) for item in found]
    kubectl("delete", "namespace", "--wait=false", *own.values())  # nothing but defaults is in there


def moved(item: Object, namespaces: dict[str, str]) -> Object:
    metadata = dict(item["metadata"])
    if item["kind"] == "Namespace":
        metadata["name"] = namespaces[metadata["name"]]
    elif "namespace" in metadata:
        metadata["namespace"] = namespaces.get(metadata["namespace"], metadata["namespace"])
    return {**item, "metadata": metadata}


def test_the_api_server_takes_every_object(stack_objects: list[Object]) -> None:
    apply(stack_objects, "--dry-run=server")


def test_pod_security_restricted_takes_every_pod(stack_objects: list[Object]) -> None:
    apply(every_pod(stack_objects), "--dry-run=server")


def every_pod(found: list[Object]) -> Iterator[dict[str, Any]]:
    """Yield the pods of the objects, because a Deployment is accepted with any pods."""
    for number, item in enumerate(found):
        for pod in pods(item):
            # Priority classes and accounts must exist when a pod is created, and these do not exist yet.
            spec = {key: value for key, value in pod.items() if key not in ("priorityClassName", "serviceAccountName")}
            spec["volumes"] = [*spec.get("volumes", []), *claimed(item)]
            metadata = {"name": f"pod-{number}", "namespace": item["metadata"]["namespace"]}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never", **spec}}


def claimed(item: Object) -> list[dict[str, Any]]:
    """Return the volumes of a StatefulSet's pods."""
    return [
        {"name": claim["metadata"]["name"], "emptyDir": {}}
        for claim in item.get("spec", {}).get("volumeClaimTemplates", [])
    ]


def test_pod_security_restricted_refuses_a_pod_that_may_be_root(stack_objects: list[Object]) -> None:
    pod = next(every_pod(stack_objects))
    pod["spec"]["securityContext"] = {}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        apply([pod], "--dry-run=server")


def test_a_stacks_objects_need_no_deprecated_api(kinds: None) -> None:
    cluster = resolve(STACK, pytest.fail).cluster
    outcome = own_apis("dev", cluster)
    assert outcome.status == "passed", outcome.text
    assert cluster.warnings("Endpoints", "v1") == [
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    ]
    with pytest.raises(NotFoundError):
        cluster.warnings("CronJob", "batch/v1beta1")
