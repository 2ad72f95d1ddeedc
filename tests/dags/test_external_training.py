"""The DAGs external_training_*: Airflow runs them, and the systems outside the stack answer."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import psycopg
import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, TaskDeferred
from airflow.triggers.base import TriggerEvent
from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from external_training import program, sagemaker, wiring
from external_training import steps as external_steps
from external_training.outputs import Job
from external_training.sagemaker_operator import TrainingOperator
from external_training.sagemaker_trigger import TrainingTrigger
from external_training.system import Finished
from flight_features.columns import FEATURES, TARGET
from flight_model import fitting, models, training_set
from flight_model.outputs import Computing, Frozen
from infra.documents import REPOSITORY
from ml_common import declarations, registry
from ml_common.errors import PermanentError
from ml_common.lazy_operator import LazyOperator
from ml_common.object_store import Bucket
from tests import sagemaker_jobs
from tests.dags.conftest import drop_all, publish_year, running_s3

DAGS = REPOSITORY / "dags"
LAST = date(2013, 4, 28)
PARAMS = {"as_of": "2013-04-29", "candidate": "logistic", "minimum_auc": 0.6}
ROLE = "arn:aws:iam::123456789012:role/airflow-dev-sagemaker"

# Runs a DAG as `airflow dags test` does, and prints the states of its tasks and how many were deferred.
RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions import dag as definitions
from airflow.utils.db import initdb
deferred = []
run_inline_trigger = definitions._run_inline_trigger
def counted(trigger, *others):
    deferred.append(trigger.serialize()[0])
    return run_inline_trigger(trigger, *others)
definitions._run_inline_trigger = counted
initdb()
folder, params = sys.argv[1:]
[dag] = DagBag(folder).dags.values()
run = dag.test(logical_date=None, run_conf=json.loads(params))
tasks = {ti.task_id: ti.state for ti in run.get_task_instances()}
print("result:", json.dumps({"state": run.state, "tasks": tasks, "deferred": deferred}))
"""


@pytest.fixture(scope="module")
def s3(s3_port: int) -> Iterator[ThreadedMotoServer]:
    """The S3 server, with its data for all tests of this module."""
    with running_s3(s3_port) as server:
        yield server


@pytest.fixture(scope="module")
def features(feature_server: str, year: bytes) -> Iterator[psycopg.Connection]:
    """The feature store with the flights of January to April."""
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(feature_server, autocommit=True) as connection:
        patch.setenv("AIRFLOW_CONN_FEATURES", feature_server)
        publish_year(connection, year, LAST)
        yield connection
        drop_all(connection)


@pytest.fixture
def frozen(features: psycopg.Connection, artifacts: Bucket) -> Frozen:
    return fitting.freeze("2013-04-29", [], 28)


def connection(kind: str, **fields: Any) -> str:
    return json.dumps({"conn_type": kind, **fields})


def run(dag_id: str, home: Path, variables: Mapping[str, str]) -> Any:
    """Run a DAG in an Airflow with its own database."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(DAGS / dag_id), json.dumps(PARAMS)],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS / dag_id),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": str(DAGS),
            "ML_IMAGE": "registry.example/ml:1",
            **variables,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "result: " in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout.rpartition("result: ")[2])


DAG_ID = "external_training_sagemaker"
ACCOUNT = "123456789012"
SAGEMAKER = {"AIRFLOW_CONN_SAGEMAKER": connection("aws", extra={"execution_role": ROLE, "region_name": "us-east-1"})}


@pytest.fixture
def job(frozen: Frozen) -> Job:
    return external_steps.prepare("external_training_sagemaker", frozen, "logistic", 0)


def test_a_model_that_sagemaker_fitted_passes_the_gate_and_its_card_has_the_price(
    frozen: Frozen, job: Job, artifacts: Bucket, mlflow_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sagemaker_jobs.running():
        ended = run(DAG_ID, tmp_path, SAGEMAKER)
    assert ended["state"] == "success", ended
    assert ended["tasks"].pop("approval") == "skipped"
    assert set(ended["tasks"].values()) == {"success"}
    assert ended["deferred"] == ["external_training.sagemaker_trigger.TrainingTrigger"]

    # The job has the image, the role and the limits of the declaration, and fits the model that this process fits.
    started = boto3.client("sagemaker").describe_training_job(TrainingJobName=job["name"])
    assert started["AlgorithmSpecification"]["TrainingImage"] == "registry.example/ml:1"
    assert (started["RoleArn"], started["ResourceConfig"]["InstanceType"]) == (ROLE, "ml.m5.xlarge")
    assert started["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    folder = f"flight_model/models/{job['training_key']}/"
    flights = training_set.read(frozen["training_set"], before=date.fromisoformat(job["training"]["before"]))
    model = models.fit("logistic", 0, flights[list(FEATURES)], flights[TARGET])
    assert artifacts.get(f"{folder}model.skops") == models.to_bytes(model)

    assert registry.champion_version("flight_delays") == "1"
    written = artifacts.get_json(f"{folder}card.json")
    assert written["decision"].startswith("Version 1 became the champion. AUC 0.6")
    assert written["computing"] == {
        "system": "Amazon SageMaker",
        "job": job["name"],
        "resources": "one ml.m5.xlarge",
        "seconds": started["BillableTimeInSeconds"],
        "usd": pytest.approx(started["BillableTimeInSeconds"] / 3600 * 0.23),
    }
    page = artifacts.get(f"{folder}card.html").decode()
    assert f"Fitted by Amazon SageMaker in the job <code>{job['name']}</code> on one ml.m5.xlarge: " in page
    assert "<h2>Candidates</h2>" not in page

    # Another run takes the model, and starts no job.
    assert external_steps.request(DAG_ID, job) is None
    assert external_steps.fetch(DAG_ID, job, None)["computing"] == written["computing"]


def operator(job: Job) -> TrainingOperator:
    external = declarations.of(DAGS / DAG_ID)["external"]
    arguments = sagemaker.SageMaker().arguments(job, external, {"execution_role": ROLE})
    return TrainingOperator(task_id="submit", **arguments)


def jobs() -> list[str]:
    found = boto3.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    return [one["TrainingJobName"] for one in found]


@pytest.fixture
def sagemaker_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SAGEMAKER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ML_IMAGE", "registry.example/ml:1")


@pytest.fixture
def started(job: Job, sagemaker_connection: None) -> Any:
    """A job that a try of the task has started, as moto keeps it."""
    boto3.client("sagemaker").create_training_job(**operator(job).config)
    return get_backend("sagemaker")[ACCOUNT]["us-east-1"].training_jobs[job["name"]]


def test_a_second_try_waits_for_the_job_of_the_first(job: Job, started: Any) -> None:
    before = jobs()
    started.training_job_status = "InProgress"
    with pytest.raises(TaskDeferred) as deferred:
        operator(job).execute({})
    assert deferred.value.trigger.job_name == job["name"]
    assert deferred.value.timeout == timedelta(minutes=90)
    started.training_job_status = "Completed"
    assert operator(job).execute({})["Training"]["TrainingJobName"] == job["name"]
    assert jobs() == before


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_failed_is_started_again_under_another_name(job: Job, started: Any, status: str) -> None:
    before = jobs()
    started.training_job_status = status
    result = operator(job).execute({})
    [new] = set(jobs()) - set(before)
    assert result["Training"]["TrainingJobName"] == new
    assert new.startswith(f"{job['name']}-")


async def events(trigger: TrainingTrigger) -> list[TriggerEvent]:
    return [event async for event in trigger.run()]


def test_a_job_that_fails_while_the_triggerer_waits_ends_the_task_with_its_reason(job: Job, started: Any) -> None:
    started.training_job_status = "InProgress"
    with pytest.raises(TaskDeferred) as deferred:
        operator(job).execute({})
    started.training_job_status, started.failure_reason = "Failed", "AlgorithmError: no flights"
    _, arguments = deferred.value.trigger.serialize()
    [event] = asyncio.run(events(TrainingTrigger(**arguments)))
    with pytest.raises(PermanentError, match=r"^The SageMaker job airflow-\w+ failed: AlgorithmError: no flights\.$"):
        operator(job).execute_complete({}, event.payload)


class Failing(BaseOperator):
    """Waits for something that fails."""

    def __init__(self, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def execute(self, _: Any) -> None:
        raise TaskDeferred(trigger=None, method_name="execute_complete")

    def execute_complete(self, _: Any) -> None:
        raise AirflowException(self.reason)


def test_a_failed_job_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("failing")
    vars(module)["Failing"] = Failing
    monkeypatch.setitem(sys.modules, "failing", module)
    task = LazyOperator(task_id="submit", operator="failing:Failing", arguments={"reason": "no capacity"})
    with pytest.raises(TaskDeferred):
        task.execute({})
    with pytest.raises(PermanentError, match=r"^no capacity$"):
        task.resume_execution("execute_complete", {}, {})


def test_without_arguments_there_is_nothing_to_do() -> None:
    assert LazyOperator(task_id="submit", operator="nothing:Nothing", arguments=None).execute({}) is None


def test_a_connection_without_a_role_is_one_sentence(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SAGEMAKER", connection("aws"))
    monkeypatch.setenv("ML_IMAGE", "registry.example/ml:1")
    with pytest.raises(
        PermanentError,
        match=r'^The Airflow connection sagemaker does not say which IAM role to use: add "execution_role" to its ex',
    ):
        external_steps.request(DAG_ID, job)


def test_a_model_of_another_scikit_learn_is_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    computing = Computing(system="S", job="j", resources="r", seconds=1, usd=1)
    finished = Finished(b"", {"scikit-learn": "1.0", "rows": 1, "seconds": 1}, computing)
    monkeypatch.setattr(sagemaker.SageMaker, "finished", lambda *_: finished)
    with pytest.raises(PermanentError, match=r"^The job airflow-[0-9a-f]{16} used scikit-learn 1.0, but models are "):
        external_steps.fetch(DAG_ID, job, {})


def test_equal_code_gives_equal_bytes_of_the_program() -> None:
    assert program.archive() == program.archive()


def test_without_the_connection_the_log_says_why_there_is_no_dag(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, absent = str(DAGS / DAG_ID / f"{DAG_ID}_dag.py"), f"There is no DAG {DAG_ID}: "
    assert wiring.create(file, "") is None
    assert f"{absent}the Airflow connection sagemaker does not exist: create it under Admin, Connect" in caplog.text
    monkeypatch.setenv("EXTERNAL_CONNECTIONS", '["others"]')
    assert wiring.create(file, "") is None
    assert f"{absent}the connection sagemaker is not in the stack's setting airflow:external_conn" in caplog.text
    monkeypatch.setenv("EXTERNAL_CONNECTIONS", '["others", "sagemaker"]')
    assert wiring.create(file, "") is not None
