"""`make github-roles`: the trusted repository, and what to enter where."""

import json
import re

import pytest

from infra.errors import OperationError
from infra.settings import DagSettings, Settings
from ops.plan.cloud import ACCOUNT
from ops.pulumi.backend import backend_of
from ops.roles.github_roles import next_steps, recording, repository_of, roles_of
from ops.roles.policies import Scope
from ops.roles.program import provider_arn, trust
from ops.scan.terraform import configuration
from tests.filled_settings import aws_settings
from tests.roles.evaluation import permits_trust
from tests.workflows.parsed import jobs

SCOPE = Scope("dev", ACCOUNT, "us-east-1", backend_of("dev", ACCOUNT, "us-east-1"))


def of_repository(address: str) -> Settings:
    return aws_settings("dev").model_copy(update={"dags": DagSettings(repository=address, branch="dev")})


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/team/air.flow.git",
        "https://github.com/team/air.flow",
        "git@github.com:team/air.flow.git",
        "ssh://git@github.com/team/air.flow.git",
    ],
)
def test_the_repository_is_that_of_the_dags(address: str) -> None:
    assert repository_of("dev", of_repository(address), None) == "team/air.flow"


def test_another_repository_can_be_named_with_its_ids() -> None:
    settings = of_repository("https://git.example.com/team/airflow.git")
    assert repository_of("dev", settings, "team@1/airflow@23") == "team@1/airflow@23"
    with pytest.raises(OperationError, match="is not on GitHub: run `make github-roles STACK=dev REPOSITORY="):
        repository_of("dev", settings, None)


def test_a_stack_whose_deployments_assume_another_role_is_an_error() -> None:
    settings = aws_settings("dev").model_copy(update={"deploy_role_arn": f"arn:aws:iam::{ACCOUNT}:role/deploy"})
    with pytest.raises(OperationError, match="remove airflow:deploy_role_arn from Pulumi"):
        repository_of("dev", settings, None)


@pytest.mark.parametrize("name", ["team", "team/*", "team/airflow:ref", "team/a b", "https://github.com/team/airflow"])
def test_a_name_that_is_no_repository_is_an_error(name: str) -> None:
    with pytest.raises(OperationError, match="is not a GitHub repository: set REPOSITORY=<owner>/<name>"):
        repository_of("dev", of_repository("https://github.com/team/airflow"), name)


@pytest.mark.parametrize(
    ("subject", "trusted"),
    [
        ("repo:team/airflow:environment:dev", True),
        ("repo:team@12/airflow@345:environment:dev", True),
        ("repo:team/airflow:environment:prod", False),
        ("repo:team/airflow:environment:dev-read", False),
        ("repo:team/airflow:ref:refs/heads/dev", False),
        ("repo:team/airflow:pull_request", False),
        ("repo:team/airflow-fork:environment:dev", False),
        ("repo:other/airflow:environment:dev", False),
        ("repo:team@12/other@345:environment:dev", False),
        ("repo:team@12/airflow@345:environment:prod", False),
        ("repo:team@12/airflow@345:ref:refs/heads/dev", False),
        ("repo:team2@12/airflow@345:environment:dev", False),
    ],
)
def test_only_jobs_of_the_environment_of_the_repository_are_trusted(subject: str, trusted: bool) -> None:
    policy = json.loads(trust(provider_arn(ACCOUNT), "team/airflow", "dev"))
    assert permits_trust(policy, subject) is trusted
    assert not permits_trust(policy, subject, audience="https://github.com/team")


def test_a_repository_with_ids_is_trusted_only_with_these_ids() -> None:
    policy = json.loads(trust(provider_arn(ACCOUNT), "team@12/airflow@345", "dev"))
    assert permits_trust(policy, "repo:team@12/airflow@345:environment:dev")
    assert not permits_trust(policy, "repo:team@12/airflow@346:environment:dev")
    assert not permits_trust(policy, "repo:team/airflow:environment:dev")


def test_the_environments_are_those_of_all_jobs_that_assume_a_role() -> None:
    used = {job.content["environment"] for job in jobs() if job.content["permissions"].get("id-token") == "write"}
    of_dev = {re.sub(r"\$\{\{.*\}\}", "dev", environment) for environment in used}
    assert of_dev == {role.environment for role in roles_of("dev", aws_settings("dev"), SCOPE)}


@pytest.mark.parametrize(
    ("stack", "environments"),
    [
        ("dev", ["dev", "dev-read", "preview"]),
        ("staging", ["staging", "staging-read"]),
        ("prod", ["prod", "prod-read"]),
    ],
)
def test_each_role_is_for_an_environment_of_the_workflows(stack: str, environments: list[str]) -> None:
    assert [role.environment for role in roles_of(stack, aws_settings(stack), SCOPE)] == environments


def test_the_next_steps_name_every_value_that_is_missing() -> None:
    settings = aws_settings("dev")
    lines = list(next_steps("dev", settings, SCOPE, roles_of("dev", settings, SCOPE)))
    assert f"  dev: AWS_ROLE=arn:aws:iam::{ACCOUNT}:role/github-airflow-dev-deploy AWS_REGION=us-east-1" in lines
    values = [line.split()[1] for line in lines if line.startswith("  airflow:")]
    deploy, preview, read, boundary, preview_boundary = values
    cluster = settings.cluster.model_copy(update={"admin_arns": (deploy, preview), "reader_arns": (read,)})
    boundaries = {"permissions_boundary": boundary, "preview_permissions_boundary": preview_boundary}
    complete = settings.model_copy(update={"cluster": cluster, **boundaries})
    assert not any(
        "Pulumi.dev.yaml" in line for line in next_steps("dev", complete, SCOPE, roles_of("dev", complete, SCOPE))
    )


def test_the_recorded_roles_are_scanned_with_their_policies() -> None:
    found = recording("dev", aws_settings("dev"))
    assert found.stack == "dev-github-roles"
    scanned = configuration(found)["resource"]
    assert set(scanned["aws_iam_role"]) == {"deploy", "read", "preview"}
    assert {name.rpartition("-")[0] for name in scanned["aws_iam_role_policy_attachment"]} == {
        "deploy",
        "read",
        "preview",
    }
    for role in found.of_type("aws:iam/role:Role"):
        assert "repo:example/airflow:environment:" in role.inputs["assumeRolePolicy"]
