"""Rules for every object of every stack."""

import configparser
import re
from collections.abc import Iterator

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from infra.airflow.values import checked_values
from infra.helm_values import FOLDER
from infra.previews.settings import VALUES
from ops.plan.manifests import CHART_TYPE, Object, pods, rendered
from ops.plan.usage import stated_usage
from tests import accounts
from tests.recordings import recorded

from .conftest import STACKS, of_kind, stack_objects

Objects = tuple[Object, ...]

CLUSTER_WIDE = {
    *("Namespace", "PriorityClass", "StorageClass", "NodePool", "NodeClass"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def test_every_object_is_in_a_namespace_of_the_stack(objects: Objects) -> None:
    namespaces = {item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"}
    for item in objects:
        if item["kind"] not in CLUSTER_WIDE:
            assert item["metadata"]["namespace"] in {*namespaces, "kube-system"}, item["metadata"]["name"]
    assert "default" not in namespaces


def test_every_namespace_enforces_the_restricted_pod_security(objects: Objects) -> None:
    for namespace in of_kind(objects, "Namespace").values():
        labels = namespace["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted", namespace["metadata"]["name"]


def test_no_two_objects_have_the_same_name(objects: Objects) -> None:
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    assert all(NAME.fullmatch(name) for _, _, name in names)


def test_no_object_is_a_helm_hook(objects: Objects) -> None:
    for item in objects:
        assert not [key for key in item["metadata"].get("annotations", {}) if key.startswith("helm.sh/hook")]


def test_no_job_deletes_itself(objects: Objects) -> None:
    for job in of_kind(objects, "Job").values():
        assert "ttlSecondsAfterFinished" not in job["spec"], job["metadata"]["name"]


def test_the_chart_creates_no_secret_and_no_role(objects: Objects) -> None:
    made = [item for item in objects if item["metadata"].get("labels", {}).get("heritage") == "Helm"]
    assert made
    assert not [item for item in made if item["kind"] in ("Secret", "Role", "RoleBinding", "ClusterRole")]


def test_the_chart_renders_the_same_twice(stack: str, objects: Objects) -> None:
    chart = recorded(stack, reveal=True).of_type(CHART_TYPE)[0].inputs
    assert rendered(chart) == rendered(chart)


def test_no_role_reads_secrets_or_has_a_wildcard(objects: Objects) -> None:
    for role in of_kind(objects, "Role", "ClusterRole").values():
        for rule in role["rules"]:
            # A task passes its model server a secret.
            if (rule["verbs"], rule.get("resourceNames")) != (["patch"], ["docs-answers-passed"]):
                assert "secrets" not in rule["resources"], role["metadata"]["name"]
            assert "*" not in [*rule["resources"], *rule["verbs"], *rule["apiGroups"]], role["metadata"]["name"]


def test_the_service_account_of_tasks_has_no_role(objects: Objects) -> None:
    for binding in of_kind(objects, "RoleBinding").values():
        assert [subject["name"] for subject in binding["subjects"]] != ["airflow-task"]


def test_the_quota_counts_every_task_and_nothing_else(objects: Objects) -> None:
    quota = of_kind(objects, "ResourceQuota")["tasks"]
    assert quota["metadata"]["namespace"] == "airflow-tasks"
    assert set(quota["spec"]) == {"hard"}
    assert set(quota["spec"]["hard"]) == {"pods", "requests.cpu", "requests.memory"}


def in_tasks_namespace(objects: Objects, kind: str) -> set[str]:
    return {
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == kind and item["metadata"].get("namespace") == "airflow-tasks"
    }


def test_the_namespace_of_tasks_has_no_secret_and_no_account_of_airflow(stack: str, objects: Objects) -> None:
    keys = {"object-store"} if stack == "local" else set()
    assert in_tasks_namespace(objects, "Secret") == {"mlflow-tasks", "features-database", *keys}
    assert in_tasks_namespace(objects, "ServiceAccount") == accounts.OF_TASKS
    assert in_tasks_namespace(objects, "Deployment") == set()


def test_only_airflow_has_rights_in_the_namespace_of_tasks_and_only_there(objects: Objects) -> None:
    bindings = of_kind(objects, "RoleBinding")
    of_airflow = {name: bindings[name] for name in ("airflow-scheduler", "airflow-api-server")}
    assert in_tasks_namespace(objects, "RoleBinding") == in_tasks_namespace(objects, "Role") == set(of_airflow)
    for name, binding in of_airflow.items():
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "airflow"}]


def test_only_a_dag_that_serves_a_model_has_a_role_in_airflows_namespace(
    objects: Objects,
) -> None:
    served = {
        "dag-docs-assistant": "docs-answers",
        "dag-flight-model": "flight-delays",
        "dag-image-classifier": "image-classifier",
    }
    bindings = of_kind(objects, "RoleBinding")
    assert sorted(one for one in bindings if one.startswith("dag-")) == sorted(served)
    for name, endpoint in served.items():
        assert bindings[name]["metadata"]["namespace"] == "airflow"
        assert bindings[name]["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "airflow-tasks"}]
        for rule in of_kind(objects, "Role")[name]["rules"]:
            names = [f"{endpoint}-passed"] if rule["resources"] == ["secrets"] else [endpoint]
            assert rule.get("resourceNames") == (None if rule["verbs"] == ["list"] else names)


def test_the_scheduler_creates_pods_in_the_namespace_of_tasks(objects: Objects) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(of_kind(objects, "ConfigMap")["airflow-config"]["data"]["airflow.cfg"])
    assert settings["kubernetes_executor"]["namespace"] == "airflow-tasks"
    assert settings.getboolean("kubernetes_executor", "multi_namespace_mode") is False


def test_running_tasks_do_not_exceed_the_pod_quota(objects: Objects) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(of_kind(objects, "ConfigMap")["airflow-config"]["data"]["airflow.cfg"])
    schedulers = of_kind(objects, "Deployment")["airflow-scheduler"]["spec"]["replicas"]
    pods = int(of_kind(objects, "ResourceQuota")["tasks"]["spec"]["hard"]["pods"])
    assert 0 < schedulers * settings.getint("core", "parallelism") <= pods
    assert settings.getint("kubernetes_executor", "task_publish_max_retries") == -1


def test_prod_has_two_replicas_of_interactive_components_in_different_zones(objects: Objects) -> None:
    deployments = of_kind(stack_objects("prod"), "Deployment")
    for name in ("airflow-scheduler", "airflow-api-server", "airflow-pgbouncer"):
        spec = deployments[name]["spec"]
        assert spec["replicas"] == 2, name
        spread = spec["template"]["spec"]["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone"], name
        assert spread[0]["labelSelector"]["matchLabels"].items() <= spec["selector"]["matchLabels"].items(), name


def test_with_pgbouncer_components_reach_the_database_only_through_it(objects: Objects) -> None:
    connection = of_kind(stack_objects("prod"), "Secret")["airflow-database"]["stringData"]["connection"]
    assert "@airflow-pgbouncer:6543/airflow" in connection
    files = of_kind(stack_objects("prod"), "Secret")["airflow-connection-pool"]["stringData"]
    assert "rds.amazonaws.com port=5432 dbname=airflow" in files["pgbouncer.ini"]
    assert "server_tls_sslmode = verify-full\nserver_tls_ca_file = /etc/database-ca/ca.pem" in files["pgbouncer.ini"]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("airflow-*.yaml")), ids=lambda path: path.stem)
def test_there_is_no_values_file_of_an_unknown_stack(path: object) -> None:
    assert str(path).rpartition("airflow-")[2].removesuffix(".yaml") in (*STACKS, VALUES)


def test_every_stack_has_valid_values(stack: str, objects: Objects) -> None:
    assert checked_values(stack)["executor"] == "task_pods.DagKubernetesExecutor"


def test_old_runs_are_deleted_one_night_at_a_time_but_not_in_previews(stack: str, objects: Objects) -> None:
    spec = of_kind(objects, "CronJob")["airflow-database-cleanup"]["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Forbid")
    [command] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"][2:]
    assert 'date -d "-365 days"' in command
    assert command.rstrip().endswith('--clean-before-timestamp "${CLEAN_TS}" --yes --skip-archive --batch-size 10000')
    assert not checked_values(stack, VALUES)["databaseCleanup"]["enabled"]


def test_airflows_version_is_that_of_its_image(objects: Objects) -> None:
    values = yaml.safe_load((FOLDER / "airflow.yaml").read_text())
    pins = (FOLDER.parent / "requirements" / "airflow.txt").read_text()
    assert f"apache-airflow=={values['airflowVersion']} " in pins


def test_the_plan_counts_the_nodes_for_the_requests_of_the_pods(stack: str, objects: Objects) -> None:
    asked = [request for item in of_kind(objects, "Deployment", "StatefulSet").values() for request in requests(item)]
    asked += [("cpu", 0.25), ("memory", 0.5)]  # dags/ml_common/serving_manifests.py
    stated = stated_usage().services_of(stack)
    for resource, amount in (("cpu", stated.vcpu), ("memory", stated.memory_gib)):
        needed = sum(quantity for name, quantity in asked if name == resource)
        assert needed <= stated.nodes * amount <= 1.3 * needed, (resource, needed)


def requests(item: Object) -> Iterator[tuple[str, float]]:
    """Yield the requests of each container of all replicas, in vCPUs and GiB."""
    for pod in pods(item):
        for container in pod["containers"]:
            asked = container["resources"]["requests"]
            yield "cpu", item["spec"]["replicas"] * float(parse_quantity(asked["cpu"]))
            yield "memory", item["spec"]["replicas"] * float(parse_quantity(asked["memory"])) / 2**30
