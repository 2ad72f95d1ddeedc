"""The pod template of tasks, without the changes of a DAG."""

import configparser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from kubernetes.client import ApiClient
from kubernetes.client.models import V1Pod

from ops.plan.manifests import Object

from .conftest import containers, of_kind

Objects = tuple[Object, ...]

# Variables with which a DAG's code could read or forge Airflow's own data; options of these names are no secrets.
FORBIDDEN = ("SQL_ALCHEMY_CONN", "FERNET", "JWT", "AIRFLOW__API__SECRET_KEY", "AIRFLOW_CONN")
# The one connection of tasks: to the database of the feature store.
FEATURES = "AIRFLOW_CONN_FEATURES"


@pytest.fixture
def template(objects: Objects) -> Any:
    return yaml.safe_load(of_kind(objects, "ConfigMap")["airflow-config"]["data"]["pod_template_file.yaml"])


def test_the_executor_can_read_the_pod_template(template: Any) -> None:
    pod = ApiClient()._ApiClient__deserialize(template, V1Pod)
    assert pod.spec.containers[0].name == "base"
    assert pod.spec.restart_policy == "Never"


def test_a_task_has_no_access_to_airflows_database_and_none_of_its_keys(template: Any) -> None:
    for container in containers(template["spec"]):
        for variable in (one for one in container["env"] if one["name"] != FEATURES):
            assert not any(word in variable["name"] for word in FORBIDDEN), variable["name"]
    assert all("secret" not in volume for volume in template["spec"]["volumes"])


def test_a_task_starts_at_once_and_fetches_its_dags_from_the_dag_processors_pod(
    template: Any, objects: Objects
) -> None:
    [container] = containers(template["spec"])
    assert not {variable["name"] for variable in container["env"]} & {"GITSYNC_REPO", "GIT_SYNC_REPO"}
    [url] = [variable["value"] for variable in container["env"] if variable["name"] == "DAGS_URL"]
    address = urlsplit(url)
    service = of_kind(objects, "Service")[str(address.hostname).partition(".")[0]]["spec"]
    assert address.port == service["ports"][0]["port"]
    pod = of_kind(objects, "Deployment")["airflow-dag-processor"]["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= service["selector"].items()


def test_a_task_has_no_kubernetes_token(template: Any) -> None:
    assert template["spec"]["serviceAccountName"] == "airflow-task"
    assert template["spec"]["automountServiceAccountToken"] is False


def test_a_running_task_is_not_evicted_and_has_time_to_stop(template: Any) -> None:
    annotations = template["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert template["spec"]["terminationGracePeriodSeconds"] >= 60


def test_a_task_knows_where_its_data_and_its_images_are(stack: str, template: Any) -> None:
    names = {variable["name"] for variable in template["spec"]["containers"][0]["env"]}
    assert names >= {"DATA_BUCKET", "ARTIFACTS_BUCKET", "MLFLOW_TRACKING_URI", "ML_IMAGE", "SERVING_IMAGE"}
    assert "NODE_POOLS" in names
    assert ("AWS_SECRET_ACCESS_KEY" in names) == (stack == "local")


def test_a_task_has_the_variables_that_keep_its_memory_small(template: Any) -> None:
    variables = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
    assert variables["MALLOC_ARENA_MAX"] == "1"


def test_a_task_can_only_write_to_volumes(template: Any) -> None:
    mounts = template["spec"]["containers"][0]["volumeMounts"]
    written = {mount["mountPath"] for mount in mounts if not mount.get("readOnly")}
    assert written == {"/tmp", "/opt/airflow/logs", "/opt/airflow/dags"}
    assert {mount["mountPath"] for mount in mounts} - written <= {"/etc/database-ca"}


def test_a_task_connects_to_the_feature_store_as_its_owner_and_gives_up_soon(
    stack: str, objects: Objects, template: Any
) -> None:
    [variable] = [one for one in template["spec"]["containers"][0]["env"] if one["name"] == FEATURES]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "features-database", "key": FEATURES}}
    secret = of_kind(objects, "Secret")["features-database"]
    assert secret["metadata"]["namespace"] == "airflow-tasks"
    assert set(secret["stringData"]) == {FEATURES}
    address = urlsplit(secret["stringData"][FEATURES])
    assert (address.scheme, address.username, address.path) == ("postgresql", "features", "/features")
    assert address.port == 5432
    verified = {"sslmode": "verify-full", "sslrootcert": "/etc/database-ca/ca.pem"}
    options = {"sslmode": "disable"} if stack == "local" else verified
    assert dict(parse_qsl(address.query)) == {**options, "connect_timeout": "5"}


def test_a_person_approves_models_where_the_settings_say_so(stack: str, template: Any) -> None:
    variables = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
    assert variables["MODEL_APPROVAL"] == ("required" if stack == "prod" else "none")


def test_a_task_has_the_options_of_airflow_cfg_as_variables(objects: Objects, template: Any) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(of_kind(objects, "ConfigMap")["airflow-config"]["data"]["airflow.cfg"])
    variables = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
    assert variables["AIRFLOW_CONFIG"] == "/dev/null"
    options = {
        f"AIRFLOW__{section.upper()}__{option.upper()}": value
        for section in settings.sections()
        for option, value in settings[section].items()
    }
    assert options
    assert {name: variables[name].strip() for name in options} == options


def test_a_task_finds_airflow_from_its_own_namespace(template: Any) -> None:
    variables = {variable["name"]: variable.get("value") for variable in template["spec"]["containers"][0]["env"]}
    assert variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-api-server.airflow:8080/execution/"
    assert variables["AIRFLOW__METRICS__STATSD_HOST"] == "airflow-statsd.airflow"
    assert variables["MLFLOW_TRACKING_URI"] == "http://mlflow.airflow:5000"
    assert variables["SERVING_NAMESPACE"] == "airflow"


def test_the_objects_that_a_task_mounts_are_in_its_namespace(objects: Objects, template: Any) -> None:
    there = {
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "ConfigMap" and item["metadata"]["namespace"] == "airflow-tasks"
    }
    assert {volume["configMap"]["name"] for volume in template["spec"]["volumes"] if "configMap" in volume} <= there


def test_a_task_logs_in_to_the_model_registry_as_its_user(template: Any) -> None:
    variables = {variable["name"]: variable for variable in template["spec"]["containers"][0]["env"]}
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        assert variables[name]["valueFrom"] == {"secretKeyRef": {"name": "mlflow-tasks", "key": name}}
