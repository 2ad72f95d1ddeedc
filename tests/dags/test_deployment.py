import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from kubernetes import client, config

from infra.airflow_names import DATABASE_CA_FILE
from infra.airflow_platform import AUTHORITIES
from ml_common import deployment, kubernetes_rollout
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.serving_manifests import ServingSettings, manifests

SETTINGS = ServingSettings(
    "image-classifier", "ml", "registry.example/serving:1", "serving", {"MLFLOW_TRACKING_URI": "http://mlflow"}
)


def deployment_of(version: str) -> dict[str, Any]:
    return manifests(SETTINGS, version)[1]


def container_of(version: str) -> dict[str, Any]:
    container: dict[str, Any] = deployment_of(version)["spec"]["template"]["spec"]["containers"][0]
    return container


def command_that(program: str) -> str:
    return f"{sys.executable} -c '{program}'"


def test_the_serving_process_gets_the_version_and_the_environment() -> None:
    environment = {entry["name"]: entry["value"] for entry in container_of("7")["env"]}
    assert environment == {"MODEL_VERSION": "7", "SERVING_PORT": "8080", "MLFLOW_TRACKING_URI": "http://mlflow"}


def test_another_version_changes_only_the_pod() -> None:
    old, new = deployment_of("7"), deployment_of("8")
    assert old["spec"]["template"] != new["spec"]["template"]
    old["spec"].pop("template"), new["spec"].pop("template")
    assert old == new


def test_the_pod_runs_with_least_privilege() -> None:
    pod = deployment_of("7")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["serviceAccountName"] == "serving"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container_of("7")["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_runs_as_the_user_of_the_image() -> None:
    dockerfile = Path(__file__).parents[2] / "images" / "serving" / "Dockerfile"
    user = deployment_of("7")["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in dockerfile.read_text()


def test_the_old_pod_stays_until_the_new_one_is_ready() -> None:
    assert deployment_of("7")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container_of("7")["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_the_old_pod_answers_until_every_node_routes_to_the_new_one() -> None:
    assert container_of("7")["lifecycle"]["preStop"]["sleep"]["seconds"] >= 5


def test_the_service_selects_the_pods() -> None:
    service, serving = manifests(SETTINGS, "7")
    assert service["spec"]["selector"] == serving["spec"]["template"]["metadata"]["labels"]
    [port], [container_port] = service["spec"]["ports"], container_of("7")["ports"]
    assert port["targetPort"] == container_port["name"]
    # As EKS' network policies require.
    assert port["port"] == container_port["containerPort"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in deployment.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SERVING_IMAGE", "i:1")
    monkeypatch.setenv("SERVING_NAMESPACE", "ml")
    monkeypatch.setenv("ARTIFACTS_BUCKET", "artifacts")
    assert deployment.settings("churn", "churn_model", "serving") == ServingSettings(
        "churn", "ml", "i:1", "default", {"ARTIFACTS_BUCKET": "artifacts", "MODEL_NAME": "churn_model"}
    )


def test_size_and_replicas_are_those_that_dag_yaml_declares(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVING_IMAGE", "i:1")
    monkeypatch.setenv("SERVING_NAMESPACE", "ml")
    monkeypatch.setattr(deployment, "DAGS", tmp_path)
    declared = {"big": "serves: {name: big, size: large, replicas: 3}", "plain": "serves: plain", "none": ""}
    for dag_id, text in declared.items():
        (tmp_path / dag_id).mkdir()
        (tmp_path / dag_id / "dag.yaml").write_text(text)
    found = {name: deployment.settings(name, name, "serving") for name in ("big", "plain", "none")}
    assert {name: (one.size, one.replicas) for name, one in found.items()} == {
        "big": ("large", 3),
        "plain": ("small", 1),
        "none": ("small", 1),
    }
    _, applied = manifests(found["big"], "1")
    assert applied["spec"]["replicas"] == 3
    pod = applied["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "2560Mi"},
        "limits": {"memory": "6Gi"},
    }
    [spread] = pod["topologySpreadConstraints"]
    assert spread["labelSelector"] == applied["spec"]["selector"]
    assert "topologySpreadConstraints" not in manifests(found["plain"], "1")[1]["spec"]["template"]["spec"]


def test_a_dag_may_serve_with_its_own_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURN_SERVER_IMAGE", "i:2")
    monkeypatch.setenv("SERVING_NAMESPACE", "ml")
    assert deployment.settings("churn", "churn_model", "churn-server").image == "i:2"


def test_two_models_share_nothing() -> None:
    churn = ServingSettings("churn", "ml", "i:1", "serving")
    for one, other in zip(manifests(churn, "1"), manifests(SETTINGS, "1"), strict=True):
        assert one["metadata"]["name"] == "churn"
        assert one["metadata"]["labels"] != other["metadata"]["labels"]
    [secret] = manifests(churn, "1")[1]["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    assert secret["secretRef"]["name"] == "churn-serving"


def test_secrets_are_passed_in_a_secret_and_another_value_starts_another_pod() -> None:
    secret, _, applied = manifests(SETTINGS, "1", {"KEY": "s3cret"})
    assert (secret["metadata"]["name"], secret["data"]) == (SETTINGS.passed_secret, {"KEY": "czNjcmV0"})
    pod = applied["spec"]["template"]
    names = [one["secretRef"]["name"] for one in pod["spec"]["containers"][0]["envFrom"]]
    assert names == [SETTINGS.credentials_secret, SETTINGS.passed_secret]
    assert "s3cret" not in str(applied)
    other = manifests(SETTINGS, "1", {"KEY": "another"})[2]["spec"]["template"]
    assert other["metadata"]["annotations"] != pod["metadata"]["annotations"]
    assert manifests(SETTINGS, "1", {})[0]["data"] == {}


def test_a_server_that_reads_features_verifies_the_database_where_it_can() -> None:
    pod = manifests(replace(SETTINGS, reads_features=True), "1")[1]["spec"]["template"]["spec"]
    assert {"name": "database-ca", "configMap": {"name": "database-ca", "optional": True}} in pod["volumes"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert f"{mounts['database-ca']}/{DATABASE_CA_FILE}" == AUTHORITIES
    assert "database-ca" not in str(manifests(SETTINGS, "1"))


def test_the_rollout_command_gets_secrets_in_its_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    program = 'import os, sys; print(os.environ["SERVING_SECRETS"].replace(" ", "") + "/".join(sys.argv[1:]))'
    monkeypatch.setenv("SERVING_ROLLOUT_COMMAND", command_that(program))
    assert deployment.deploy("churn", "7", secrets={"KEY": "value"}) == '{"KEY":"value"}churn/churn/7'


def test_serving_goes_to_this_pods_namespace_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("airflow\n")
    monkeypatch.setenv("SERVING_IMAGE", "i:1")
    monkeypatch.setattr(deployment, "POD_NAMESPACE_FILE", tmp_path / "namespace")
    assert deployment.settings("churn", "churn_model", "serving").namespace == "airflow"


@pytest.mark.parametrize("missing", ["SERVING_IMAGE", "SERVING_NAMESPACE"])
def test_a_missing_setting_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_IMAGE", "i:1")
    monkeypatch.delenv(missing, raising=False)
    with pytest.raises(PermanentError, match=f"{missing} is not set"):
        deployment.settings("churn", "churn_model", "serving")


@pytest.mark.parametrize(("model", "served"), [("churn_model", "churn_model"), (None, "churn")])
def test_the_rollout_command_gets_name_model_and_version_and_its_last_line_is_the_endpoint(
    model: str | None, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = 'import sys; print("starting"); print("http://127.0.0.1:1/" + "/".join(sys.argv[1:]))'
    monkeypatch.setenv("SERVING_ROLLOUT_COMMAND", command_that(program))
    assert deployment.deploy("churn", "7", model) == f"http://127.0.0.1:1/churn/{served}/7"


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        (command_that('import sys; sys.exit("The port is taken.")'), ServiceUnavailableError, "The port is taken."),
        (command_that("raise SystemExit(3)"), ServiceUnavailableError, "exit status 3"),
        (command_that("pass"), PermanentError, "printed no endpoint URL"),
        ("/no/such/program", PermanentError, "cannot be started"),
    ],
)
def test_a_rollout_command_that_fails_gives_one_sentence(
    command: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_ROLLOUT_COMMAND", command)
    with pytest.raises(kind, match=message):
        deployment.deploy("churn", "7")


def test_a_rollout_command_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "ROLLOUT_SECONDS", 0.2)
    monkeypatch.setenv("SERVING_ROLLOUT_COMMAND", command_that("import time; time.sleep(30)"))
    with pytest.raises(ServiceUnavailableError, match="not served after"):
        deployment.deploy("churn", "7")


class Cluster:
    """A Kubernetes API with the few answers that a rollout needs.

    `pods` holds the lists of pods that it answers with one after the other; the last one stays.
    """

    def __init__(self) -> None:
        self.applied: list[tuple[str, str, dict[str, list[str]], dict[str, Any]]] = []
        self.pods: list[list[dict[str, Any]]] = [[]]
        self.status: dict[str, int] = {}

    def answer(self, path: str) -> dict[str, Any]:
        named: dict[str, Any] = {"name": "image-classifier", "namespace": "ml", "generation": 2, "uid": "deployment"}
        revision: dict[str, Any] = {"annotations": {"deployment.kubernetes.io/revision": "2"}}
        old: dict[str, Any] = {"annotations": {"deployment.kubernetes.io/revision": "1"}}
        answers: dict[str, dict[str, Any]] = {
            "/version": {"major": "1", "minor": "35"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "groups": [_group("apps", "v1")]},
            "/api/v1": {"kind": "APIResourceList", "resources": [_resource("services", "Service")]},
            "/apis/apps/v1": {"kind": "APIResourceList", "resources": [_resource("deployments", "Deployment")]},
            "/apis/apps/v1/namespaces/ml/deployments/image-classifier": {
                "metadata": named | revision,
                "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "image-classifier"}}, "template": {}},
                "status": self.status,
            },
            "/apis/apps/v1/namespaces/ml/replicasets": {
                "items": [
                    {"metadata": {"name": "new", "uid": "new"} | revision},
                    {"metadata": {"name": "old", "uid": "old"} | old},
                ]
            },
            "/api/v1/namespaces/ml/pods": {"items": self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]},
        }
        return answers[path]


def _group(name: str, version: str) -> dict[str, Any]:
    entry = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _resource(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "namespaced": True, "singularName": "", "verbs": ["get", "patch"]}


def stuck_pod(reason: str, owner: str) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason, "message": "no such image"}}
    return {
        "metadata": {
            "name": f"{owner}-1",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner}],
        },
        "spec": {"containers": []},
        "status": {
            "containerStatuses": [
                {"image": "i:1", "imageID": "", "name": "serving", "ready": False, "restartCount": 0, "state": waiting}
            ]
        },
    }


ROLLED_OUT = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
ROLLING = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    stand_in = Cluster()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(stand_in.answer(urlparse(self.path).path))

        def do_PATCH(self) -> None:
            url = urlparse(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.applied.append((url.path, self.headers["Content-Type"], parse_qs(url.query), body))
            self._send(body)

        def _send(self, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    access = client.Configuration()
    access.host = f"http://127.0.0.1:{server.server_port}"
    access.retries = False
    monkeypatch.setattr(kubernetes_rollout, "_load_access", lambda: client.Configuration.set_default(access))
    monkeypatch.setattr(kubernetes_rollout, "POLL_SECONDS", 0.01)
    yield stand_in
    server.shutdown()
    server.server_close()
    client.Configuration.set_default(None)


def test_both_objects_are_applied_on_the_server_side_and_the_address_returned(cluster: Cluster) -> None:
    cluster.status = ROLLED_OUT
    assert kubernetes_rollout.roll_out(SETTINGS, "7") == "http://image-classifier.ml.svc:8080"
    assert [path.rsplit("/", 2)[1] for path, *_ in cluster.applied] == ["services", "deployments"]
    for _, content_type, query, _ in cluster.applied:
        assert content_type == "application/apply-patch+yaml"
        assert query == {"fieldManager": ["image-classifier-dag"], "force": ["True"]}
    assert [body for *_, body in cluster.applied] == manifests(SETTINGS, "7")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"])
def test_the_error_names_a_pod_that_cannot_start_and_says_that_the_old_version_keeps_serving(
    reason: str, cluster: Cluster
) -> None:
    cluster.status = ROLLING
    cluster.pods = [[stuck_pod(reason, owner="new")]]
    with pytest.raises(PermanentError, match=rf"old version keeps serving: {reason} for i:1 in pod new-1 \(no such"):
        kubernetes_rollout.roll_out(SETTINGS, "7")


def test_a_pod_of_an_earlier_failed_rollout_is_ignored(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_rollout, "DEADLINE_SECONDS", 0.3)
    cluster.status = ROLLING
    cluster.pods = [[stuck_pod("ImagePullBackOff", owner="old")]]
    with pytest.raises(ServiceUnavailableError, match="was not ready after"):
        kubernetes_rollout.roll_out(SETTINGS, "7")


def test_a_rollout_ends_only_when_the_old_pod_is_gone() -> None:
    deployed = client.V1Deployment(
        metadata=client.V1ObjectMeta(generation=2),
        spec=client.V1DeploymentSpec(replicas=1, selector={}, template={}),
        status=client.V1DeploymentStatus(observed_generation=2, replicas=1, updated_replicas=1, available_replicas=1),
    )
    assert kubernetes_rollout.is_rolled_out(deployed)
    deployed.status.replicas = 2
    assert not kubernetes_rollout.is_rolled_out(deployed)
    deployed.status.replicas, deployed.status.observed_generation = 1, 1
    assert not kubernetes_rollout.is_rolled_out(deployed)


def test_the_address_is_returned_when_the_old_pod_has_ended(cluster: Cluster) -> None:
    cluster.status = ROLLED_OUT
    old = stuck_pod("Terminating", owner="old")
    new = stuck_pod("Running", owner="new")
    cluster.pods = [[new, old], [new, old], [new]]
    kubernetes_rollout.roll_out(SETTINGS, "7")
    assert cluster.pods == [[new]]


def test_an_old_pod_on_a_node_that_does_not_answer_is_not_waited_for_forever(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_rollout, "OLD_PODS_SECONDS", 0.1)
    cluster.status = ROLLED_OUT
    cluster.pods = [[stuck_pod("Terminating", owner="old")]]
    assert kubernetes_rollout.roll_out(SETTINGS, "7") == "http://image-classifier.ml.svc:8080"


def test_no_access_to_a_cluster_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(PermanentError, match="no access to a Kubernetes cluster"):
        kubernetes_rollout.roll_out(SETTINGS, "7")


def test_a_cluster_that_does_not_answer_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = client.Configuration()
    unreachable.host, unreachable.retries = "http://127.0.0.1:9", False
    monkeypatch.setattr(kubernetes_rollout, "_load_access", lambda: client.Configuration.set_default(unreachable))
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        kubernetes_rollout.roll_out(SETTINGS, "7")
