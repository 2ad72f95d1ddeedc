"""Uninstalling leaves nothing; runs last."""

from ops.plan.resources import Recording

from .stack import NAMESPACE, PLATFORM_NAMESPACE, TASKS_NAMESPACE, get, kubectl, uninstall

CLUSTER_WIDE = (
    "priorityclasses,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
)


def test_uninstalling_leaves_no_object(deployed: Recording) -> None:
    uninstall(deployed)
    there = kubectl("get", "namespaces", "-o", "name")
    for namespace in (NAMESPACE, PLATFORM_NAMESPACE, TASKS_NAMESPACE):
        assert f"namespace/{namespace}\n" not in there
    claims = [volume["spec"]["claimRef"]["namespace"] for volume in get("persistentvolumes")["items"]]
    assert not {NAMESPACE, PLATFORM_NAMESPACE} & set(claims)
    assert "airflow" not in kubectl("get", CLUSTER_WIDE, "-o", "name")
