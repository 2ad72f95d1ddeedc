"""Properties of every DAG in the repository."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.airflow.values import image_variable
from infra.dag_declarations import declarations
from infra.images import content

DAGS = Path(__file__).parents[2] / "dags"
DAG_FILES = sorted(DAGS.rglob("*_dag.py"))
HEAVY = {
    "aiosmtplib",
    "boto3",
    "great_expectations",
    "kubernetes",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "PIL",
    "psycopg",
    "pyarrow",
    "safetensors",
    "sklearn",
    "slack_sdk",
    "torch",
    "torchvision",
    "wandb",
}

INSPECT = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
def facts(dag):
    DagSerialization.to_dict(dag)
    return {
        "file": dag.fileloc, "doc_md": dag.doc_md, "tags": sorted(dag.tags), "catchup": dag.catchup,
        "timeout": bool(dag.dagrun_timeout), "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {task.task_id: {
            "owner": task.owner, "retries": task.retries, "backoff": task.retry_exponential_backoff,
            "timeout": bool(task.execution_timeout), "callback": bool(task.on_failure_callback),
            "retry_policy": bool(task.retry_policy), "rule": task.trigger_rule,
            "downstream": sorted(task.downstream_task_ids),
        } for task in dag.tasks},
    }
print(json.dumps({"errors": bag.import_errors, "parsed": [stat.file for stat in bag.dagbag_stats],
                  "dags": {dag_id: facts(dag) for dag_id, dag in bag.dags.items()}}))
"""

# What the KubernetesExecutor makes of each task: the cluster's template with the task's own on top.
MERGE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.serialization.serialized_objects import BaseSerialization
from kubernetes.client import ApiClient, models as k8s
def template():
    container = k8s.V1Container(
        name="base", image="airflow", security_context=k8s.V1SecurityContext(read_only_root_filesystem=True),
        volume_mounts=[k8s.V1VolumeMount(name="tmp", mount_path="/tmp")],
    )
    spec = k8s.V1PodSpec(
        containers=[container], service_account_name="airflow-task", automount_service_account_token=False,
        volumes=[k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource())],
    )
    return k8s.V1Pod(spec=spec)
def merged(config):
    stored = json.loads(json.dumps(BaseSerialization.serialize(config)))
    pod = PodGenerator.reconcile_pods(template(), PodGenerator.from_obj(BaseSerialization.deserialize(stored)))
    return ApiClient().sanitize_for_serialization(pod)["spec"]
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
pods = {dag_id: {task.task_id: merged(task.executor_config) for task in dag.tasks} for dag_id, dag in bag.dags.items()}
print(json.dumps(pods))
"""

CONFIGS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps([task.executor_config for dag in bag.dags.values() for task in dag.tasks]))
"""

IMAGES = {image_variable(name): f"registry.example/{name}:1" for name in content.names()}
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", **IMAGES}
# As in infra/airflow/values.py.
POOLS = {"NODE_POOLS": json.dumps({"cpu": [], "gpu": ["nvidia.com/gpu"]})}

PARSE = """
import json, sys, time
import airflow.sdk
before, started = set(sys.modules), time.perf_counter()
import importlib.util
spec = importlib.util.spec_from_file_location("parsed", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(json.dumps({"seconds": time.perf_counter() - started, "modules": sorted(set(sys.modules))}))
"""


def run(program: str, argument: Path, home: Path, variables: Mapping[str, str] = MappingProxyType({})) -> Any:
    """Return the JSON that `program` prints in a separate Airflow without database and network."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "PYTHONPATH": str(DAGS),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(INSPECT, DAGS, tmp_path_factory.mktemp("airflow"))


def test_no_dag_has_an_import_error_and_every_dag_file_holds_one(bag: Any) -> None:
    assert bag["errors"] == {}
    assert sorted(dag["file"] for dag in bag["dags"].values()) == [str(path) for path in DAG_FILES]


def test_only_dag_files_are_parsed(bag: Any) -> None:
    assert {path.lstrip("/") for path in bag["parsed"]} == {str(path.relative_to(DAGS)) for path in DAG_FILES}


def test_every_dag_has_a_runbook_tags_and_a_timeout(bag: Any) -> None:
    for dag_id, dag in bag["dags"].items():
        assert dag["doc_md"], dag_id
        assert dag["tags"], dag_id
        assert dag["timeout"], dag_id
        assert dag["catchup"] is False, dag_id


def test_every_param_has_a_type(bag: Any) -> None:
    for dag in bag["dags"].values():
        for name, schema in dag["params"].items():
            assert "type" in schema, name


def test_every_task_has_owner_retries_with_backoff_timeout_and_failure_callback(bag: Any) -> None:
    for dag in bag["dags"].values():
        for task_id, task in dag["tasks"].items():
            assert task["owner"] not in {"", "airflow"}, task_id
            assert task["retries"] >= 1, task_id
            assert task["backoff"] > 1, task_id
            assert task["timeout"], task_id
            assert task["callback"], task_id
            assert task["retry_policy"], task_id


def test_the_tasks_of_image_classifier_follow_each_other(bag: Any) -> None:
    tasks = bag["dags"]["image_classifier"]["tasks"]
    order = ["validate", "preprocess", "train", "evaluate", "gate", "register", "deploy", "smoke_test"]
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"]
    assert tasks["base_checkpoint"]["downstream"] == ["train"]


def test_the_tasks_of_flight_features_follow_each_other_between_setup_and_teardown(bag: Any) -> None:
    tasks = bag["dags"]["flight_features"]["tasks"]
    order = ["tables.land", "tables.stage", "check_raw", "build", "check_features", "publish", "verify"]
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"]
    assert tasks["verify"]["downstream"] == ["drop_staging"]
    assert set(tasks["create_staging"]["downstream"]) == {*order, "drop_staging"} - {"verify"}


def test_the_scores_of_flight_scores_follow_the_lookup_of_the_champion(bag: Any) -> None:
    tasks = bag["dags"]["flight_scores"]["tasks"]
    assert {task_id: task["downstream"] for task_id, task in tasks.items()} == {"champion": ["score"], "score": []}


def test_the_tasks_of_flight_monitor_follow_each_other(bag: Any) -> None:
    tasks = bag["dags"]["flight_monitor"]["tasks"]
    assert tasks["join_outcomes"]["downstream"] == ["drift", "performance"]
    for measuring in ("drift", "performance"):
        assert tasks[measuring]["downstream"] == ["report"]
    assert tasks["decide"]["downstream"] == ["notify", "request_retraining"]
    assert "notify" in tasks["request_retraining"]["downstream"]


def test_the_tasks_of_flight_model_follow_each_other_and_its_card_does_not_follow_a_rejection(bag: Any) -> None:
    tasks = bag["dags"]["flight_model"]["tasks"]
    order = ["freeze", "train", "choose", "refit", "evaluate", "gate", "next_task", "approval", "register", "promote"]
    for before, after in pairwise([*order, "deploy"]):
        assert after in tasks[before]["downstream"]
    assert set(tasks["next_task"]["downstream"]) == {"approval", "register", "card"}
    # A person who rejects skips what follows directly.
    assert tasks["approval"]["downstream"] == ["register"]
    assert "card" in tasks["promote"]["downstream"]
    rules = {name: task["rule"] for name, task in tasks.items() if task["rule"] != "all_success"}
    assert rules == {
        "choose": "all_done_min_one_success",
        "register": "none_failed_min_one_success",
        "card": "none_failed",
    }


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The specification of each task's pod, by DAG and task."""
    return run(MERGE, DAGS, tmp_path_factory.mktemp("airflow"), POD)


def test_every_task_asks_for_an_image_cpu_and_memory_and_keeps_the_rest_of_the_pod_template(pods: Any) -> None:
    for dag_id, dag in pods.items():
        image = f"registry.example/{declarations()[dag_id].image}:1"
        for task_id, pod in dag.items():
            [container] = pod["containers"]
            assert container["name"] == "base", task_id
            assert container["image"] == image, task_id
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, task_id
            assert set(container["resources"]["limits"]) == {"memory"}, task_id
            assert container["securityContext"] == {"readOnlyRootFilesystem": True}, task_id
            assert container["volumeMounts"] == [{"mountPath": "/tmp", "name": "tmp"}], task_id
            assert "tolerations" not in pod, task_id


def test_only_the_task_that_deploys_has_a_kubernetes_token(pods: Any) -> None:
    for dag_id, dag in pods.items():
        for task_id, pod in dag.items():
            assert pod["automountServiceAccountToken"] is (task_id == "deploy"), f"{dag_id}.{task_id}"


def test_only_training_asks_for_a_gpu_where_the_cluster_has_some(tmp_path: Path) -> None:
    tasks = run(MERGE, DAGS, tmp_path, {**POD, **POOLS})["image_classifier"]
    train = tasks.pop("train")
    assert train["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert train["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert train["nodeSelector"] == {"karpenter.sh/nodepool": "gpu"}
    for task_id, pod in tasks.items():
        assert "tolerations" not in pod, task_id
        assert "nodeSelector" not in pod, task_id
        assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"], task_id


@pytest.mark.parametrize(
    "variables", [{}, {**POD, "AIRFLOW_IS_K8S_EXECUTOR_POD": "True"}], ids=["on a laptop", "in the pod of a task"]
)
def test_no_task_configures_a_pod_where_it_gets_none(variables: Mapping[str, str], tmp_path: Path) -> None:
    configs = run(CONFIGS, DAGS, tmp_path, variables)
    assert configs
    assert not any(configs)


def test_an_unset_image_variable_is_an_error_that_names_it(tmp_path: Path) -> None:
    variables = {name: value for name, value in POD.items() if name not in IMAGES}
    errors = run(INSPECT, DAGS, tmp_path, variables)["errors"]
    assert len(errors) == len(DAG_FILES)
    for error in errors.values():
        assert re.search(r"([A-Z]+)_IMAGE is not set: set it to the container image of images/[a-z]+ with its", error)


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_parsing_imports_nothing_heavy(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parsed = run(PARSE, path, tmp_path)
    with capsys.disabled():
        print(f"\n{path.relative_to(DAGS)} is parsed in {parsed['seconds']:.3f} s")
    assert HEAVY.isdisjoint(parsed["modules"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefix", ""),
        ("prefix", "/images/"),
        ("prefix", "images"),
        ("architecture", "resnet152"),
        ("weights", None),
        ("weights", "IMAGENET1K_V2"),
        ("image_size", 8),
        ("image_size", "32"),
        ("epochs", 0),
        ("learning_rate", 0),
        ("batch_size", 1),
        ("minimum_accuracy", 1.1),
        ("seed", -1),
        ("base_checkpoint", "/weights.pth"),
        ("base_checkpoint", "weights.zip"),
    ],
)
def test_an_invalid_param_is_refused(name: str, value: object) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    from image_classifier.image_classifier_dag import PARAMS

    with pytest.raises(ParamValidationError):
        PARAMS[name].resolve(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefix", "a/"),
        ("prefix", "grüne Äpfel/2/"),
        ("architecture", "resnet50"),
        ("weights", "none"),
        ("base_checkpoint", "base/resnet18.pth"),
    ],
)
def test_a_valid_param_is_accepted(name: str, value: object) -> None:
    from image_classifier.image_classifier_dag import PARAMS

    assert PARAMS[name].resolve(value) == value


@pytest.mark.parametrize("module", ["image_classifier.validation", "image_classifier.gate"])
def test_steps_that_need_neither_torch_nor_mlflow_do_not_import_them(module: str, tmp_path: Path) -> None:
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    assert {"torch", "mlflow"}.isdisjoint(run(program, DAGS, tmp_path))
