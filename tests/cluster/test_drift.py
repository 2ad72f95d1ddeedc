"""Changes with kubectl are drift, with Pulumi's engine and its Kubernetes plugin."""

import json
import os
import shutil
import sys
from collections.abc import Iterator

import pytest

from ops.cli import app as command
from ops.pulumi.deployment import Deployment
from tests.pulumi_engine import small_stack

from .stack import get, kubectl

if missing := [name for name in ("pulumi", "pulumi-resource-kubernetes") if not shutil.which(name)]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

NAMESPACE = "drift"
PROGRAM = f"""
import pulumi_kubernetes as kubernetes

namespace = kubernetes.core.v1.Namespace("namespace", metadata={{"name": "{NAMESPACE}"}})
place = {{"namespace": namespace.metadata.name}}
text = "[core]\\nparallelism = 32\\n"
kubernetes.core.v1.ConfigMap("settings", metadata=place | {{"name": "settings"}}, data={{"airflow.cfg": text}})
kubernetes.core.v1.ConfigMap("forgotten", metadata=place | {{"name": "forgotten"}}, data={{"a": "1"}})
kubernetes.core.v1.Secret("key", metadata=place | {{"name": "key"}}, string_data={{"key": "the-first-key"}})
labels = {{"app": "worker"}}
container = {{"name": "main", "image": "registry.k8s.io/pause:latest", "resources": {{"limits": {{"cpu": "100m"}}}}}}
kubernetes.apps.v1.Deployment(
    "worker",
    metadata=place | {{"name": "worker"}},
    spec={{
        "replicas": 0,
        "revision_history_limit": 5,
        "selector": {{"match_labels": labels}},
        "template": {{"metadata": {{"labels": labels}}, "spec": {{"containers": [container]}}}},
    }},
)
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A small stack in the cluster."""
    with small_stack(tmp_path_factory.mktemp("drift"), PROGRAM, os.environ["PATH"]) as deployment:
        yield deployment
        deployment.run("destroy", "--yes", "--skip-preview", "--refresh")


def drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", "drift", "small"])
    command.main()


def test_an_unchanged_stack_has_no_drift(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    drift(monkeypatch)


def test_what_kubectl_changes_is_shown_and_a_deployment_that_refreshes_undoes_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl("patch", "deployment", "worker", "-n", NAMESPACE, "--patch", '{"spec": {"revisionHistoryLimit": 1}}')
    kubectl("set", "resources", "deployment/worker", "--limits", "cpu=200m", "-n", NAMESPACE)
    text = json.dumps({"data": {"airflow.cfg": "[core]\nparallelism = 64\n"}})
    kubectl("patch", "configmap", "settings", "-n", NAMESPACE, "--patch", text)
    kubectl("patch", "secret", "key", "-n", NAMESPACE, "--patch", '{"stringData": {"key": "the-second-key"}}')
    kubectl("delete", "configmap", "forgotten", "-n", NAMESPACE)
    with pytest.raises(SystemExit, match=r"^2$"):
        drift(monkeypatch)
    assert capsys.readouterr().out.splitlines() == [
        f"~ kubernetes:apps/v1:Deployment worker [{NAMESPACE}/worker]",
        "    spec.revisionHistoryLimit: 5 -> 1",
        "    spec.template.spec.containers[0].resources.limits.cpu: 100m -> 200m",
        f"- kubernetes:core/v1:ConfigMap forgotten [{NAMESPACE}/forgotten]: deleted",
        f"~ kubernetes:core/v1:ConfigMap settings [{NAMESPACE}/settings]",
        '    data["airflow.cfg"]:',
        "      -parallelism = 32",
        "      +parallelism = 64",
        f"~ kubernetes:core/v1:Secret key [{NAMESPACE}/key]",
        "    data.key: [secret] -> [secret]",
        "small has drifted: 3 changed, 1 deleted. `make deploy STACK=small REFRESH=1` undoes these changes",
    ]
    deployment.run("up", "--yes", "--skip-preview", "--refresh")
    drift(monkeypatch)  # no more drift
    assert get("deployment/worker", namespace=NAMESPACE)["spec"]["revisionHistoryLimit"] == 5
    assert get("configmap/forgotten", namespace=NAMESPACE)["data"] == {"a": "1"}
