"""The resources of an environment's program: only its own, none of its base."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.airflow.chart import cached_archive
from infra.airflow.values import checked_values
from infra.airflow_names import tasks_namespace
from infra.previews.platform import create
from ops.plan.manifests import CHART_TYPE, own_objects, rendered
from ops.plan.resources import Recording, Resource
from tests import accounts

from .conftest import BASES, settings_of

Recorded = Callable[..., Recording]
ON_AWS = ("dev", "private-aws")
POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
CLUSTER_WIDE = {"Namespace", "PriorityClass", *POLICIES}


@pytest.fixture(params=BASES)
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def named(recording: Recording, type_: str, name: str) -> Resource:
    [found] = [item for item in recording.of_type(type_) if item.name == name]
    return found


def own_namespaces(base: str) -> set[str]:
    stack = settings_of(base).stack
    return {stack, tasks_namespace(stack)}


def test_all_objects_are_in_the_environments_namespaces_but_those_that_make_databases_and_let_it_in(
    recorded: Recorded, base: str
) -> None:
    stack = settings_of(base).stack
    metadata = [
        (item.type.rpartition(":")[2], item.inputs["metadata"])
        for item in recorded(base).resources
        if item.type.startswith("kubernetes:") and item.type != CHART_TYPE
    ]
    elsewhere = [
        (kind, one)
        for kind, one in metadata
        if kind not in CLUSTER_WIDE and one["namespace"] not in own_namespaces(base)
    ]
    assert {one["namespace"] for _, one in elsewhere} == {"database-setup" if base in ON_AWS else "airflow-platform"}
    admissions = {"local": ("git", "postgres", "s3"), "private": ("postgres", "s3")}.get(base, ())
    # Pulumi generates names with a random suffix for the others.
    assert {f"{kind} {one.get('name', '')}" for kind, one in elsewhere} == {"ConfigMap ", "Secret ", "Job "} | {
        f"NetworkPolicy {stack}-to-{server}" for server in admissions
    }


@pytest.mark.skipif(not cached_archive().exists(), reason="the chart is not in the cache")
def test_the_chart_puts_nothing_anywhere_else(recorded: Recorded) -> None:
    [chart] = recorded("local", reveal=True).of_type(CHART_TYPE)
    namespaces = {item["metadata"]["namespace"] for item in rendered(chart.inputs)}
    assert namespaces == {settings_of("local").stack}


def test_cluster_wide_objects_have_the_environments_name(recorded: Recorded, base: str) -> None:
    stack = settings_of(base).stack
    found = [item["metadata"]["name"] for item in own_objects(recorded(base)) if item["kind"] in CLUSTER_WIDE]
    policies = ("model-server", "model-service", "task-pods")
    assert sorted(found) == sorted(
        [
            *(stack, f"{stack}-tasks", f"{stack}-control-plane", f"{stack}-task"),
            *(f"{stack}-{policy}" for policy in policies for _ in POLICIES),
        ]
    )


def test_both_namespaces_are_under_pod_security_restricted(recorded: Recorded, base: str) -> None:
    namespaces = recorded(base).of_type("kubernetes:core/v1:Namespace")
    assert {namespace.inputs["metadata"]["name"] for namespace in namespaces} == own_namespaces(base)
    for namespace in namespaces:
        assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def physical_names(recording: Recording) -> Iterator[str]:
    """Yield the names of objects outside the environment's namespaces."""
    own = (recording.stack, tasks_namespace(recording.stack))
    for item in recording.resources:
        metadata, name = item.inputs.get("metadata"), item.inputs.get("name")
        if isinstance(metadata, dict) and "name" in metadata and metadata.get("namespace") not in own:
            yield f"{item.type} {metadata.get('namespace')} {metadata['name']}"
        elif item.type == "aws:iam/role:Role":
            yield f"{item.type} {name}"


@pytest.mark.parametrize("base", ["dev", "local"])
def test_two_environments_and_their_base_share_no_name(recorded: Recorded, base: str) -> None:
    names = [
        name
        for recording in (recorded(base), recorded(base, "feature/y"), recorded(base, None))
        for name in physical_names(recording)
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("base", ["dev", "local"])
def test_databases_and_users_are_the_environments_own(recorded: Recorded, base: str) -> None:
    stack = settings_of(base).stack
    recording = recorded(base, reveal=True)
    made = [
        secret.inputs["stringData"]
        for secret in recording.of_type("kubernetes:core/v1:Secret")
        if "DATABASE_NAME" in secret.inputs.get("stringData", {})
    ]
    limits = {secret["DATABASE_NAME"]: secret["DATABASE_CONNECTIONS"] for secret in made}
    assert limits == {f"{stack}-airflow": "25", f"{stack}-mlflow": "25", f"{stack}-features": "6"}
    assert {secret["PGUSER"] for secret in made} == {"dbadmin" if base in ON_AWS else "postgres"}
    assert {secret["PGDATABASE"] for secret in made} == {"postgres"}
    users = {name for secret in made for name in json.loads(secret["DATABASE_USERS"])}
    assert users == {f"{stack}-airflow-dag-processor", f"{stack}-airflow-triggerer", f"{stack}-features-serving"}
    [airflow] = [item for item in recording.resources if item.name == "airflow-database" and item.custom]
    connection = airflow.inputs["stringData"]["connection"]
    assert connection.startswith(f"postgresql://{stack}-airflow:")
    assert f"/{stack}-airflow?sslmode={'verify-full' if base in ON_AWS else 'disable'}" in connection
    [features] = [item for item in recording.resources if item.name == "features-database"]
    assert features.inputs["metadata"]["namespace"] == tasks_namespace(stack)
    connection = features.inputs["stringData"]["AIRFLOW_CONN_FEATURES"]
    assert connection.startswith(f"postgresql://{stack}-features:")
    assert f"/{stack}-features?sslmode={'verify-full' if base in ON_AWS else 'disable'}" in connection


def values_of(recording: Recording) -> dict[str, Any]:
    return dict(named(recording, CHART_TYPE, "airflow").inputs["values"])


def test_a_person_approves_models_where_one_does_so_in_the_base(recorded: Recorded, base: str) -> None:
    for recording in (recorded(base), recorded(base, None)):
        variables = {each["name"]: each["value"] for each in values_of(recording)["env"]}
        assert variables["MODEL_APPROVAL"] == ("required" if base.startswith("private") else "none")


def test_tasks_reach_the_server_of_the_base_as_the_owner_of_their_features(recorded: Recorded, base: str) -> None:
    [policy] = [item for item in recorded(base).resources if item.name == "tasks-to-features"]
    of_base = [item for item in recorded(base, None).resources if item.name == "tasks-to-features"]
    assert policy.inputs["spec"] == of_base[0].inputs["spec"]
    assert policy.inputs["metadata"] == {
        "name": "tasks-to-features",
        "namespace": tasks_namespace(settings_of(base).stack),
    }


def test_everything_in_the_buckets_is_under_the_prefix(recorded: Recorded, base: str) -> None:
    settings, recording = settings_of(base), recorded(base)
    values = values_of(recording)
    variables = {each["name"]: each["value"] for each in values["env"]}
    assert variables["BUCKET_PREFIX"] == settings.prefix
    exports = recorded(base, None).exports
    assert variables["DATA_BUCKET"] == exports["data_bucket"]
    logs = values["config"]["logging"]["remote_base_log_folder"]
    assert logs == f"s3://{exports['logs_bucket']}/{settings.prefix}airflow"
    mlflow = named(recording, "kubernetes:apps/v1:Deployment", "mlflow").inputs["spec"]["template"]["spec"]
    [root] = [one["value"] for one in mlflow["containers"][0]["env"] if one["name"] == "MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    assert root == f"s3://{exports['artifacts_bucket']}/{settings.prefix}mlflow"


def test_a_stack_of_its_own_has_no_prefix(recorded: Recorded, base: str) -> None:
    values = values_of(recorded(base, None))
    assert "BUCKET_PREFIX" not in {each["name"] for each in values["env"]}
    assert values["config"]["logging"]["remote_base_log_folder"].endswith("-logs/airflow") or base in ON_AWS


def statements(recording: Recording) -> Iterator[dict[str, Any]]:
    """Yield the policies of components; other roles of a base have other policies."""
    for policy in recording.of_type("aws:iam/rolePolicy:RolePolicy"):
        if policy.inputs["name"] == "buckets":
            yield from json.loads(policy.inputs["policy"])["Statement"]


@pytest.mark.parametrize("base", ON_AWS)
def test_aws_lets_the_environment_at_nothing_but_its_prefix(recorded: Recorded, base: str) -> None:
    settings, recording = settings_of(base), recorded(base)
    assert len(recording.of_type("aws:iam/rolePolicy:RolePolicy")) == 14
    for statement in statements(recording):
        assert statement["Effect"] == "Allow"
        if statement["Action"] == ["s3:ListBucket"]:
            [condition] = statement["Condition"].values()
            assert all(prefix.startswith(settings.prefix) for prefix in condition["s3:prefix"])
        elif statement["Action"][0].startswith("s3:"):
            assert all(f":::airflow-{base}-" in arn and f"/{settings.prefix}" in arn for arn in statement["Resource"])
        else:
            assert {action.partition(":")[0] for action in statement["Action"]} == {"kms"}
            assert list(statement["Condition"]) == ["StringEquals"]


@pytest.mark.parametrize("base", ON_AWS)
def test_the_environment_has_the_rights_of_its_base_under_another_prefix(recorded: Recorded, base: str) -> None:
    own, of_base = (sorted(map(json.dumps, statements(recorded(base, branch)))) for branch in ("feature/x", None))
    assert [one.replace(settings_of(base).prefix, "") for one in own] == of_base


@pytest.mark.parametrize("base", ON_AWS)
def test_only_pods_of_the_environments_namespaces_take_on_its_roles(recorded: Recorded, base: str) -> None:
    stack, recording = settings_of(base).stack, recorded(base)
    of_account = {
        one.inputs["serviceAccount"]: one.inputs["namespace"]
        for one in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
        if one.inputs["clusterName"] == recorded(base, None).exports["cluster_name"]
    }
    in_tasks = {account for account, namespace in of_account.items() if namespace == tasks_namespace(stack)}
    assert in_tasks == accounts.OF_TASKS
    assert {of_account[account] for account in of_account.keys() - in_tasks} == {stack}
    roles = recording.of_type("aws:iam/role:Role")
    assert len(roles) == len(of_account) == 16
    for role in roles:
        [statement] = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        tags = statement["Condition"]["StringEquals"]
        account = tags["aws:RequestTag/kubernetes-service-account"]
        assert tags["aws:RequestTag/kubernetes-namespace"] == of_account[account]
        assert tags["aws:RequestTag/eks-cluster-arn"] == recorded(base, None).exports["cluster_arn"]


@pytest.mark.parametrize("base", ON_AWS)
def test_nothing_that_costs_by_the_hour_is_made(recorded: Recorded, base: str) -> None:
    kinds = {item.type for item in recorded(base).resources if item.type.startswith("aws:")}
    assert kinds == {
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    }
    [provider] = recorded(base).of_type("pulumi:providers:aws")
    assert json.loads(provider.inputs["defaultTags"])["tags"]["stack"] == settings_of(base).stack


@pytest.mark.parametrize("base", ["local", "private"])
def test_the_bases_servers_let_in_the_environments_pods_and_no_others(recorded: Recorded, base: str) -> None:
    stack = settings_of(base).stack
    ours = [
        item
        for item in recorded(base).of_type("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        if item.inputs["metadata"]["namespace"] not in own_namespaces(base)
    ]
    theirs = recorded(base, None)
    for policy in ours:
        server = policy.inputs["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        of_base = named(theirs, "kubernetes:networking.k8s.io/v1:NetworkPolicy", f"{server}-clients").inputs["spec"]
        [rule], [rule_of_base] = policy.inputs["spec"]["ingress"], of_base["ingress"]
        assert rule["ports"] == rule_of_base["ports"]
        # The same pods as in the base, except for the Jobs that create databases, which belong to the base.
        assert json.dumps(rule["from"]) == json.dumps(
            [peer for peer in rule_of_base["from"] if "namespaceSelector" in peer]
        ).replace('"kubernetes.io/metadata.name": "airflow', f'"kubernetes.io/metadata.name": "{stack}')


def test_the_branch_is_followed_where_it_is(recorded: Recorded, base: str) -> None:
    source = values_of(recorded(base))["dags"]["gitSync"]
    stack = settings_of(base).stack
    repository = {
        "dev": "https://github.com/example/airflow-on-kubernetes.git",
        "local": "git://git.airflow-platform.svc/dags.git",
    }.get(base, "git@example.com:ml/dags.git")
    branch = stack if base == "local" else "feature/x"
    assert (source["repo"], source["branch"], source["ref"]) == (repository, branch, branch)


def test_the_key_of_a_private_repository_is_the_bases(recorded: Recorded, base: str) -> None:
    metadata = [one.inputs.get("metadata", {}) for one in recorded(base).of_type("kubernetes:core/v1:Secret")]
    assert {one["namespace"] for one in metadata if one.get("name") == "dags-git"} == (
        {settings_of(base).stack} if base.startswith("private") else set()
    )


def test_images_are_those_of_this_clone_apart_from_those_of_the_base(recorded: Recorded, base: str) -> None:
    own, of_base = (values_of(recorded(base, branch))["images"]["airflow"] for branch in ("feature/x", None))
    if of_base["repository"].startswith("localhost/"):  # loaded onto the nodes
        assert own == of_base
    else:
        parent, _, name = of_base["repository"].rpartition("/")
        assert own == {**of_base, "repository": f"{parent}/previews/{name}"}


def test_environments_never_displace_pods_of_their_base(recorded: Recorded, base: str) -> None:
    def classes(recording: Recording) -> dict[str, int]:
        kind = "kubernetes:scheduling.k8s.io/v1:PriorityClass"
        return {one.name: one.inputs["value"] for one in recording.of_type(kind)}

    own, of_base = classes(recorded(base)), classes(recorded(base, None))
    assert max(own.values()) < min(of_base.values())
    assert own["control-plane"] > own["task"]


def test_an_environment_has_its_own_quota_and_no_alerts(recorded: Recorded, base: str) -> None:
    [quota] = recorded(base).of_type("kubernetes:core/v1:ResourceQuota")
    pods = 2 if base.startswith("private") else 8
    assert quota.inputs["spec"]["hard"]["pods"] == str(pods)
    assert values_of(recorded(base))["config"]["core"]["parallelism"] == pods
    assert "airflow-alert-rules" not in {item.name for item in recorded(base).resources}
    assert "airflow-alert-rules" in {item.name for item in recorded(base, None).resources}


def test_it_has_the_bases_values_with_one_pod_of_each_kind_and_no_pool(recorded: Recorded, base: str) -> None:
    own, of_base = values_of(recorded(base)), values_of(recorded(base, None))
    assert own["pgbouncer"]["enabled"] is False
    for section in ("scheduler", "apiServer", "dagProcessor", "triggerer"):
        assert own[section]["replicas"] == 1
        assert own[section]["livenessProbe"] == of_base[section]["livenessProbe"]
    assert own["config"]["scheduler"] == of_base["config"]["scheduler"]


def test_the_values_are_the_bases_and_after_them_the_environments(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = SimpleNamespace(namespace="somewhere")
    monkeypatch.setattr("infra.previews.existing_cluster.create", lambda *_: made)
    monkeypatch.setattr("pulumi.StackReference", lambda name: SimpleNamespace(require_output=name))
    values, _, platform, _ = create(settings_of("local").stack, project)
    assert values == ("local", "preview")
    assert platform is made
    assert (
        checked_values("prod", "preview")["scheduler"].items()
        >= {
            "topologySpreadConstraints": checked_values("prod")["scheduler"]["topologySpreadConstraints"],
            "replicas": 1,
        }.items()
    )


def test_it_says_what_it_is(recorded: Recorded, base: str) -> None:
    settings = settings_of(base)
    assert "database_admin_password" not in recorded(base).exports
    assert (
        recorded(base).exports.items()
        >= {
            "base": base,
            "branch": "feature/x",
            "expires_at": "2026-11-21T12:00:00+00:00",
            "namespace": settings.stack,
            "prefix": settings.prefix,
        }.items()
    )


def test_airflows_namespace_waits_for_the_databases_and_for_who_may_reach_them(recorded: Recorded, base: str) -> None:
    namespace = named(recorded(base), "kubernetes:core/v1:Namespace", "airflow")
    waited = {urn.rpartition("::")[2] for urn in namespace.dependencies}
    stack = settings_of(base).stack
    assert {f"create-{stack}-{purpose}" for purpose in ("airflow", "mlflow", "features")} <= waited
    assert ("task-identity" if base in ON_AWS else f"{stack}-to-postgres") in waited
