"""Who may do what on SageMaker, in a stack whose settings name the connection to it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ops.plan.resources import Recording
from tests.recordings import recorded, recorded_with

DAG = "dag-external-training-sagemaker"
JOB_ROLE = f"{DAG}-job-role"


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """The stack dev with the connection."""
    return recorded_with("airflow:external_connections: [sagemaker]", "dev", tmp_path_factory.mktemp("repository"))


def statements(recording: Recording, policy: str) -> list[Any]:
    [found] = [one for one in recording.of_type("aws:iam/rolePolicy:RolePolicy") if one.name == policy]
    listed: list[Any] = json.loads(found.inputs["policy"])["Statement"]
    return listed


def about(service: str, listed: list[Any]) -> list[Any]:
    return [one for one in listed if any(action.startswith(f"{service}:") for action in one["Action"])]


def role(recording: Recording, name: str) -> Mapping[str, Any]:
    [found] = [one for one in recording.of_type("aws:iam/role:Role") if one.name == name]
    return found.inputs


def test_the_dag_starts_jobs_of_the_stack_and_passes_one_role_only_to_sagemaker(connected: Recording) -> None:
    listed = statements(connected, f"{DAG}-policy")
    [jobs] = about("sagemaker", listed)
    assert jobs["Action"] == ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"]
    [resource] = jobs["Resource"]
    assert resource.endswith(":training-job/airflow-dev-*")
    [passing] = about("iam", listed)
    assert passing["Action"] == ["iam:PassRole"]
    [passed] = passing["Resource"]
    assert passed.endswith(role(connected, JOB_ROLE)["name"])
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_the_triggerer_only_waits(connected: Recording) -> None:
    [waiting] = about("sagemaker", statements(connected, "triggerer-policy"))
    assert waiting["Action"] == ["sagemaker:DescribeTrainingJob"]
    assert not about("iam", statements(connected, "triggerer-policy"))


def test_a_job_reads_what_the_dag_reads_and_writes_the_folder_of_the_dag(connected: Recording) -> None:
    objects = [
        one for one in about("s3", statements(connected, f"{DAG}-job-policy")) if "s3:ListBucket" not in one["Action"]
    ]
    found = {one["Resource"][0].partition("/")[2]: set(one["Action"]) for one in objects}
    assert found == {
        "external_training_sagemaker/*": {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"},
        "flight_model/*": {"s3:GetObject"},
    }
    [trusted] = json.loads(role(connected, JOB_ROLE)["assumeRolePolicy"])["Statement"]
    assert trusted["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert "aws:SourceAccount" in trusted["Condition"]["StringEquals"]


def test_a_job_pulls_only_the_image_of_the_dag_and_writes_only_logs_of_sagemaker(connected: Recording) -> None:
    listed = statements(connected, f"{DAG}-job-policy")
    [_, pulling] = about("ecr", listed)
    [repository] = pulling["Resource"]
    assert repository.endswith(":repository/airflow-dev/ml")
    [logging] = about("logs", listed)
    [group] = logging["Resource"]
    assert ":log-group:/aws/sagemaker/TrainingJobs" in group


def test_without_the_connection_there_is_no_role_and_no_permission() -> None:
    recording = recorded("dev")
    assert not [one for one in recording.of_type("aws:iam/role:Role") if one.name == JOB_ROLE]
    for one in recording.of_type("aws:iam/rolePolicy:RolePolicy"):
        assert "sagemaker" not in one.inputs["policy"].replace("external_training_sagemaker", "")
