"""Rules for every pod of every stack."""

from typing import Any

import pytest

from infra.airflow_platform import Component
from ops.plan.manifests import Object

from .conftest import all_pods, containers, namespace_of_pods, of_kind

Objects = tuple[Object, ...]

WITH_TOKEN = {Component.SCHEDULER.service_account, Component.API_SERVER.service_account}
# The Secret that `make dags-key` creates.
BY_HAND = {"dags-git"}


def test_every_pod_runs_without_root_and_with_the_default_seccomp_profile(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_every_container_has_no_privileges_and_a_read_only_file_system(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert context["readOnlyRootFilesystem"] is True, (name, container["name"])
            assert context["capabilities"]["drop"] == ["ALL"], (name, container["name"])


def test_every_container_has_requests_and_a_memory_limit(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        for container in containers(pod):
            resources = container["resources"]
            assert set(resources["requests"]) >= {"cpu", "memory"}, (name, container["name"])
            assert "memory" in resources["limits"], (name, container["name"])


def test_every_image_has_an_immutable_tag_and_is_pulled_once(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        for container in containers(pod):
            tag = container["image"].rpartition(":")[2]
            assert "/" not in tag, (name, container["image"])
            assert tag != "latest", (name, container["image"])
            assert container.get("imagePullPolicy", "IfNotPresent") == "IfNotPresent", (name, container["name"])


def test_no_probe_starts_the_airflow_command_line(objects: Objects) -> None:
    for name, pod in all_pods(objects):
        for container in containers(pod):
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                command = container.get(kind, {}).get("exec", {}).get("command", [])
                assert "airflow" not in " ".join(command).replace("/opt/airflow/", "").split(), (name, kind)


def test_long_running_containers_have_a_liveness_probe(objects: Objects) -> None:
    for item in of_kind(objects, "Deployment", "StatefulSet").values():
        for container in item["spec"]["template"]["spec"]["containers"]:
            assert "livenessProbe" in container, (item["metadata"]["name"], container["name"])


def test_no_variable_is_set_twice(objects: Objects) -> None:
    """Server-side apply refuses a container with a duplicate variable."""
    for name, pod in all_pods(objects):
        for container in containers(pod):
            names = [variable["name"] for variable in container.get("env", [])]
            assert len(names) == len(set(names)), (name, container["name"])


def test_every_secret_that_a_pod_uses_exists(objects: Objects) -> None:
    there = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in objects if item["kind"] == "Secret"}
    for item in objects:
        for _, pod in all_pods((item,)):
            for secret in named_secrets(pod) - BY_HAND:
                assert (namespace_of_pods(item), secret) in there, item["metadata"]["name"]


def named_secrets(pod: Any) -> set[str]:
    from_variables = {
        variable["valueFrom"]["secretKeyRef"]["name"]
        for container in containers(pod)
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    from_groups = {
        group["secretRef"]["name"]
        for container in containers(pod)
        for group in container.get("envFrom", [])
        if "secretRef" in group
    }
    from_volumes = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    return from_variables | from_groups | from_volumes


def test_only_clients_of_kubernetes_get_a_token(objects: Objects) -> None:
    accounts = of_kind(objects, "ServiceAccount")
    for name, pod in all_pods(objects):
        account = pod.get("serviceAccountName", "default")
        mounted = pod.get(
            "automountServiceAccountToken", accounts.get(account, {}).get("automountServiceAccountToken", True)
        )
        assert mounted == (account in WITH_TOKEN), name


@pytest.mark.parametrize("component", ["scheduler", "api-server", "dag-processor", "triggerer"])
def test_draining_a_node_evicts_one_pod_of_a_component_at_a_time(objects: Objects, component: str) -> None:
    budget = of_kind(objects, "PodDisruptionBudget")[f"airflow-{component}-pdb"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert "minAvailable" not in budget["spec"]


def test_the_control_plane_comes_before_tasks(objects: Objects) -> None:
    classes = of_kind(objects, "PriorityClass")
    for item in objects:
        labels = item["metadata"].get("labels", {})
        if labels.get("tier") != "airflow":
            continue
        for name, pod in all_pods((item,)):
            expected = "task" if item["kind"] == "ConfigMap" else "control-plane"
            assert pod["priorityClassName"] == f"airflow-{expected}", name
    assert classes["airflow-control-plane"]["value"] > classes["airflow-task"]["value"]
    assert classes["airflow-task"]["preemptionPolicy"] == "Never"


def test_the_triggerer_imports_callbacks_from_the_dags_that_git_sync_checks_out(objects: Objects, stack: str) -> None:
    pod = dict(all_pods(objects))["Deployment airflow-triggerer"]
    by_name = {container["name"]: container for container in containers(pod)}
    volumes = {mount["name"]: mount["mountPath"] for mount in by_name["triggerer"]["volumeMounts"]}
    link = next(one["value"] for one in by_name["git-sync"]["env"] if one["name"] == "GITSYNC_LINK")
    [path] = [one["value"] for one in by_name["triggerer"]["env"] if one["name"] == "PYTHONPATH"]
    assert path == f"/opt/airflow/lib:{volumes['dags']}/{link}/dags"
