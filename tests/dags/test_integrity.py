"""Properties of every DAG in the repository."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.airflow.values import image_variable
from infra.dag_declarations import declarations
from infra.images import content
from ml_common import partitions

DAGS = Path(__file__).parents[2] / "dags"
DAG_FILES = sorted(DAGS.rglob("*_dag.py"))
HEAVY = {
    "aiosmtplib",
    "airflow.providers.amazon",
    "boto3",
    "bs4",
    "great_expectations",
    "kubernetes",
    "matplotlib",
    "mlflow",
    "numpy",
    "pandas",
    "pgvector",
    "PIL",
    "psycopg",
    "pyarrow",
    "pypdf",
    "safetensors",
    "sklearn",
    "slack_sdk",
    "tokenizers",
    "torch",
    "torchvision",
    "wandb",
}

# Reads the DAGs once for each set of variables, in one process, and prints what a function finds in each DagBag.
REPORT = """
import json, os, sys
from datetime import UTC, datetime
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.serialization.encoders import encode_deadline_alert
from airflow.serialization.serialized_objects import BaseSerialization, DagSerialization
from kubernetes.client import ApiClient, models as k8s

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

def everything(bag):
    return {"errors": bag.import_errors, "parsed": [stat.file for stat in bag.dagbag_stats],
            "dags": {dag_id: facts(dag) for dag_id, dag in bag.dags.items()}}

def errors(bag):
    return bag.import_errors

def configs(bag):
    return [task.executor_config for dag in bag.dags.values() for task in dag.tasks]

# What the KubernetesExecutor makes of each task: the cluster's template with the task's own on top.
def pods(bag):
    assert not bag.import_errors, bag.import_errors
    return {dag_id: {task.task_id: merged(task.executor_config) for task in dag.tasks}
            for dag_id, dag in bag.dags.items()}

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

def alerts(bag):
    return {dag_id: [encode_deadline_alert(alert) for alert in dag.deadline or ()] for dag_id, dag in bag.dags.items()}

def january(bag):
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["flight_features"])).timetable
    bounds = {"earliest": datetime(2013, 1, 1, tzinfo=UTC), "latest": datetime(2013, 1, 31, tzinfo=UTC)}
    return [info.partition_key for info in timetable.iter_partition_dagrun_infos(**bounds)]

own, found = dict(os.environ), {}
for name, (function, variables) in json.loads(os.environ.pop("VARIANTS")).items():
    os.environ.clear()
    os.environ.update(own | variables)
    found[name] = globals()[function](DagBag(sys.argv[1]))
print(json.dumps(found, default=str))
"""

IMAGES = {image_variable(name): f"registry.example/{name}:1" for name in content.names()}
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", **IMAGES}
# As in infra/airflow/values.py.
POOLS = {"NODE_POOLS": json.dumps({"cpu": [], "gpu": ["nvidia.com/gpu"]})}

# As in infra/airflow/values.py: with these connections, no DAG is missing.
CONNECTIONS = {"EXTERNAL_CONNECTIONS": json.dumps(["sagemaker"])}
NO_IMAGES = {name: value for name, value in POD.items() if name not in IMAGES}
# What is read of the DAGs, and the variables of the process that reads them.
VARIANTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "laptop": ("everything", CONNECTIONS),
    "without connections": ("everything", {}),
    "pods": ("pods", {**POD, **CONNECTIONS}),
    "pods with node pools": ("pods", {**POD, **POOLS, **CONNECTIONS}),
    "on a laptop": ("configs", CONNECTIONS),
    "in the pod of a task": ("configs", {**POD, **CONNECTIONS, "AIRFLOW_IS_K8S_EXECUTOR_POD": "True"}),
    "no images": ("errors", {**NO_IMAGES, **CONNECTIONS}),
    "alerts": ("alerts", {}),
    "days of January": ("january", {}),
}

# Imports each file in a separate process, which starts with Airflow's SDK.
PARSE = """
import importlib.util, json, multiprocessing, sys, time
from pathlib import Path
import airflow.sdk

def parse(path):
    before, started = set(sys.modules), time.process_time()
    spec = importlib.util.spec_from_file_location("parsed", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return {"seconds": time.process_time() - started, "modules": sorted(set(sys.modules) - before)}

paths = [str(path) for path in Path(sys.argv[1]).rglob("*_dag.py")]
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    print(json.dumps(dict(zip(paths, pool.map(parse, paths, chunksize=1)))))
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
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is read of the DAGs, by the name of the variant."""
    return run(REPORT, DAGS, tmp_path_factory.mktemp("airflow"), {"VARIANTS": json.dumps(VARIANTS)})


@pytest.fixture(scope="module")
def bag(report: Any) -> Any:
    return report["laptop"]


def test_no_dag_has_an_import_error_and_every_dag_file_holds_one(bag: Any) -> None:
    assert bag["errors"] == {}
    assert sorted(dag["file"] for dag in bag["dags"].values()) == [str(path) for path in DAG_FILES]


def test_only_the_dags_of_systems_outside_the_stack_are_missing_without_connections(report: Any) -> None:
    found = report["without connections"]
    assert found["errors"] == {}
    missing = report["laptop"]["dags"].keys() - found["dags"].keys()
    assert missing == {path.stem.removesuffix("_dag") for path in DAG_FILES if path.stem.startswith("external_")}


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


def test_a_backfill_of_january_has_the_keys_of_its_31_days(report: Any) -> None:
    days = [day for key in report["days of January"] for day in partitions.days(key, {})]
    assert days == partitions.between(date(2013, 1, 1), date(2013, 1, 31))


def test_airflow_stores_the_alert_of_flight_features_with_the_path_of_its_callback(report: Any) -> None:
    [stored] = report["alerts"]["flight_features"]
    assert "'path': 'ml_common.deadlines.notify_late'" in str(stored)
    assert "DagRunQueuedAtDeadline" in str(stored)


def test_the_scores_of_flight_scores_follow_the_lookup_of_the_champion(bag: Any) -> None:
    tasks = bag["dags"]["flight_scores"]["tasks"]
    assert {task_id: task["downstream"] for task_id, task in tasks.items()} == {"champion": ["score"], "score": []}


def test_the_tasks_of_docs_index_follow_each_other_and_only_the_gate_leads_to_the_swap(bag: Any) -> None:
    tasks = bag["dags"]["docs_index"]["tasks"]
    for before, after in pairwise(["fetch", "chunk", "collect", "embed", "evaluate", "gate", "swap"]):
        assert after in tasks[before]["downstream"]
    assert {task["rule"] for task in tasks.values()} == {"all_success"}


def test_the_tasks_of_docs_assistant_follow_each_other_and_its_page_does_not_follow_a_rejection(bag: Any) -> None:
    tasks = bag["dags"]["docs_assistant"]["tasks"]
    order = ["answer", "judge", "gate", "next_task", "approval", "register", "promote", "page"]
    for before, after in pairwise(order):
        assert after in tasks[before]["downstream"]
    assert {name for name, task in tasks.items() if "answer" in task["downstream"]} == {"retrieve", "plan"}
    assert set(tasks["next_task"]["downstream"]) == {"approval", "register", "page"}
    assert tasks["approval"]["downstream"] == ["register"]
    assert tasks["judge"]["rule"] == "all_done_min_one_success"


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


@pytest.fixture
def pods(report: Any) -> Any:
    """The specification of each task's pod, by DAG and task."""
    return report["pods"]


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


def test_only_training_asks_for_a_gpu_where_the_cluster_has_some(report: Any) -> None:
    tasks = report["pods with node pools"]["image_classifier"]
    train = tasks.pop("train")
    assert train["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert train["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert train["nodeSelector"] == {"karpenter.sh/nodepool": "gpu"}
    for task_id, pod in tasks.items():
        assert "tolerations" not in pod, task_id
        assert "nodeSelector" not in pod, task_id
        assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"], task_id


@pytest.mark.parametrize("variant", ["on a laptop", "in the pod of a task"])
def test_no_task_configures_a_pod_where_it_gets_none(variant: str, report: Any) -> None:
    assert report[variant]
    assert not any(report[variant])


def test_an_unset_image_variable_is_an_error_that_names_it(report: Any) -> None:
    errors = report["no images"]
    assert len(errors) == len(DAG_FILES)
    for error in errors.values():
        assert re.search(r"([A-Z]+)_IMAGE is not set: set it to the container image of images/[a-z]+ with its", error)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The CPU time and the imported modules of each file."""
    return run(PARSE, DAGS, tmp_path_factory.mktemp("airflow"), CONNECTIONS)


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_parsing_imports_nothing_heavy(path: Path, parsed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{path.relative_to(DAGS)} is parsed in {parsed[str(path)]['seconds']:.3f} s of CPU")
    assert HEAVY.isdisjoint(parsed[str(path)]["modules"])


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


def test_steps_that_need_neither_torch_nor_mlflow_do_not_import_them(tmp_path: Path) -> None:
    program = "import json, sys, image_classifier.validation, image_classifier.gate; print(json.dumps([*sys.modules]))"
    assert {"torch", "mlflow"}.isdisjoint(run(program, DAGS, tmp_path))


def test_a_prediction_does_not_import_the_compiler_of_torch(tmp_path: Path) -> None:
    program = """
import json, sys, torch
from image_classifier import networks
with torch.inference_mode():
    networks.create("resnet18", 2).eval()(torch.rand(1, 3, 32, 32))
print(json.dumps([*sys.modules]))
"""
    assert "torch._dynamo" not in run(program, DAGS, tmp_path)


def test_the_compiler_of_torch_can_be_imported_after_the_networks(tmp_path: Path) -> None:
    program = """
import json, torch
from image_classifier import networks
print(json.dumps(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist()))
"""
    assert run(program, DAGS, tmp_path) == [2, 2]


def test_steps_of_flights_that_use_no_model_registry_do_not_import_mlflow(tmp_path: Path) -> None:
    program = (
        "import json, sys, flight_model.fitting, flight_model.gate, flight_features.steps, flight_monitor.follow_up"
    )
    imported = run(f"{program}; print(json.dumps([*sys.modules]))", DAGS, tmp_path)
    assert {"mlflow", "matplotlib"}.isdisjoint(imported)


def test_steps_that_read_no_model_of_flights_do_not_import_skops(tmp_path: Path) -> None:
    program = "import json, sys, flight_model.steps; print(json.dumps([*sys.modules]))"
    assert "skops" not in run(program, DAGS, tmp_path)
