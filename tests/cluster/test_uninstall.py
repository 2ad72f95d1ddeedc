"""Uninstalling leaves nothing; runs last."""

from ops.plan.resources import Recording

from .stack import NAMESPACE, PLATFORM_NAMESPACE, get, kubectl, uninstall


def test_uninstalling_leaves_no_object(deployed: Recording) -> None:
    uninstall(deployed)
    there = kubectl("get", "namespaces", "-o", "name")
    assert f"namespace/{NAMESPACE}\n" not in there
    assert f"namespace/{PLATFORM_NAMESPACE}\n" not in there
    claims = [volume["spec"]["claimRef"]["namespace"] for volume in get("persistentvolumes")["items"]]
    assert not {NAMESPACE, PLATFORM_NAMESPACE} & set(claims)
    assert "airflow" not in kubectl("get", "priorityclasses,clusterroles,clusterrolebindings", "-o", "name")
