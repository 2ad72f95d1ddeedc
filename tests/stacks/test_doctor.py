"""The checks of `make doctor`. Facts come from the mock of AWS, or from recorded answers where it has none."""

import subprocess
import sys
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.stub import Stubber

from infra.errors import OperationError
from infra.settings import DagSettings
from ops.aws.account import Account
from ops.cli import app as command
from ops.cli import stacks
from ops.console import new_console
from ops.doctor import account as accounts
from ops.doctor import doctor, machine
from ops.doctor.deployment import dag_repository, judge_repository
from ops.doctor.outcome import Check, Outcome, failed, passed, unknown, warning
from ops.doctor.permissions import Decision, judge_permissions, permissions, simulations
from ops.roles.policies import Scope
from ops.stacks.aws_stack import AwsStack
from tests.filled_settings import aws_settings
from tests.programs import put_on_path

NETWORKS = (IPv4Network("198.18.0.0/24"),)
DAGS = DagSettings(repository="https://github.com/team/airflow.git", branch="dev")
KEY = DAGS.model_copy(update={"credentials": "token"})
TAGS = [{"Key": "stack", "Value": "dev"}]


class Stubbed:
    """A session whose clients give recorded answers."""

    def __init__(self, **clients: Any) -> None:
        self._clients = clients

    def client(self, service: str) -> Any:
        return self._clients[service.replace("-", "_")]


def stub(service: str) -> tuple[Any, Stubber]:
    client = boto3.client(service, "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    stubber = Stubber(client)
    stubber.activate()
    return client, stubber


def account_with(arn: str = "arn:aws:iam::123456789012:user/ada", **clients: Any) -> Account:
    return Account("123456789012", arn, "us-east-1", Stubbed(**clients))


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        (machine.judge_kubectl((1, 34, 2), (1, 35)), "passed", "kubectl 1.34 with Kubernetes 1.35"),
        (machine.judge_kubectl((1, 32, 4), (1, 35)), "unknown", "install a version that differs by one minor"),
        (machine.judge_aws_cli((2, 12, 3)), "passed", "AWS CLI 2.12.3"),
        (machine.judge_aws_cli((1, 45, 11)), "passed", "AWS CLI 1.45.11"),
        (machine.judge_aws_cli((2, 9, 0)), "failed", "AWS CLI 2.9.0 is too old: install 2.12.3 or later"),
        (machine.judge_aws_cli((3, 0)), "failed", "too old"),
        (machine.judge_address(IPv4Address("198.18.0.9"), NETWORKS), "passed", "198.18.0.9 is in"),
        (machine.judge_address(IPv4Address("198.19.0.9"), NETWORKS), "failed", "add 198.19.0.9/32, or your network"),
        (machine.judge_address(IPv4Address("198.19.0.9"), ()), "unknown", "only the VPC reaches"),
        (
            accounts.judge_region("me-south-1", "not-opted-in"),
            "failed",
            "aws account enable-region --region-name me",
        ),
        (accounts.judge_region("us-east-1", "opt-in-not-required"), "passed", "us-east-1 is enabled"),
        (
            accounts.judge_zones({"a": "use1-az1", "b": "use1-az2"}, ["a", "b"]),
            "passed",
            "a is use1-az1, b is use1-az2",
        ),
        (
            accounts.judge_zones({"a": "use1-az3", "b": "use1-az2", "c": "use1-az5"}, ["a", "b"]),
            "failed",
            "EKS has no a (use1-az3) in this account: set airflow:network.zones to others, such as c",
        ),
        (accounts.judge_zones({"a": "use1-az1"}, ["a", "z"]), "failed", "EKS has no z (missing)"),
        (
            accounts.judge_vcpus("gpu", {"on-demand g": 0, "spot g": 0}),
            "warning",
            "start no node of the pool gpu, so its tasks will wait and then fail: request 4 or more",
        ),
        (
            accounts.judge_vcpus("cpu", {"on-demand standard": 1}),
            "failed",
            "1 vCPUs on-demand standard start no nod",
        ),
        (accounts.judge_vcpus("gpu", {"on-demand g": 0, "spot g": 8}), "passed", "8 vCPUs spot g for the pool gpu"),
        (accounts.judge_room("VPCs", 5, [{}] * 4, "dev", 1), "passed", "4 of 5 VPCs are used, and dev needs 1 more"),
        (
            accounts.judge_room("VPCs", 5, [{}] * 5, "dev", 1),
            "failed",
            "5 of 5 VPCs are used, and dev needs 1 mo",
        ),
        (accounts.judge_room("VPCs", 5, [{}] * 4 + [{"Tags": TAGS}], "dev", 1), "passed", "dev needs 0 more"),
        (judge_repository(DAGS, "push it", 0, ""), "passed", "dev of https://github.com/team/airflow.git"),
        (judge_repository(DAGS, "push it", 2, ""), "failed", "has no branch dev: push it"),
        (
            judge_repository(DAGS, "push it", 128, "fatal: not found"),
            "failed",
            "cannot be read (fatal: not found): correct",
        ),
        (judge_repository(DAGS, "push it", 128, "Could not resolve host: x"), "unknown", "cannot be reached"),
        (judge_repository(KEY, "push it", 128, "fatal: not found"), "unknown", "the cluster uses its own key"),
    ],
)
def test_a_fact_is_judged(outcome: Outcome, status: str, text: str) -> None:
    assert outcome.status == status
    assert text in outcome.text


def test_a_check_whose_facts_cannot_be_read_is_unknown_or_failed() -> None:
    def refuse() -> Outcome:
        raise OperationError("AWS refused GetServiceQuota")

    assert Check("quota", refuse).outcome() == unknown("AWS refused GetServiceQuota")
    assert Check("tool", refuse, "failed").outcome() == failed("AWS refused GetServiceQuota")


def test_versions_of_programs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path / "aws", "#!/bin/sh\necho aws-cli/2.27.1 Python/3.13.2\n")
    put_on_path(monkeypatch, tmp_path / "kubectl", '#!/bin/sh\necho \'{"clientVersion": {"gitVersion": "v1.35.1"}}\'\n')
    assert machine.aws_cli() == passed("AWS CLI 2.27.1")
    assert machine.kubectl("1.35") == passed("kubectl 1.35 with Kubernetes 1.35")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(OperationError, match=r"^aws is not on PATH: install it$"):
        machine.aws_cli()


def test_the_address_of_a_machine_without_a_network_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ADDRESS_URL", "http://127.0.0.1:9")
    assert machine.public_address(NETWORKS).status == "unknown"


@pytest.mark.parametrize(("answer", "status"), [(None, "passed"), (OperationError("no answer"), "failed")])
def test_a_machine_that_reaches_the_cluster_otherwise_needs_no_public_address(
    monkeypatch: pytest.MonkeyPatch, answer: OperationError | None, status: str
) -> None:
    monkeypatch.setattr(machine, "public_address", lambda _: failed("198.19.0.9 is not in the list"))
    stack = AwsStack("dev", aws_settings("dev"), pytest.fail)
    vars(stack)["cluster"] = Mock(**{"check.side_effect": answer})
    assert doctor._public_address(stack).status == status


def test_a_repository_is_read_with_git(tmp_path: Path) -> None:
    def outcome(stack: str, repository: str) -> Outcome:
        settings = aws_settings(stack)
        dags = settings.dags.model_copy(update={"repository": repository})
        return dag_repository(stack, settings.model_copy(update={"dags": dags}))

    assert outcome("dev", str(tmp_path / "none")).status == "failed"
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "empty")], check=True)
    empty = str(tmp_path / "empty")
    assert outcome("dev", empty).text.startswith(f"{empty} has no branch dev: push it, or")
    assert "branch staging: create it with `make promote FROM=dev TO=staging`" in outcome("staging", empty).text


def test_region_zones_and_room_are_read_from_the_account(account: Account) -> None:
    assert accounts.region(account).status == "passed"
    assert accounts.zones(account, ["us-east-1a", "us-east-1z"]).status == "failed"
    ec2 = account.client("ec2")
    for _ in range(4):  # in addition to the default VPC
        ec2.create_vpc(CidrBlock="10.9.0.0/16")
    assert len(ec2.describe_vpcs()["Vpcs"]) == 5
    full = accounts.vpcs(account, "dev")
    assert full.status == "failed"
    ec2.create_tags(Resources=[ec2.describe_vpcs()["Vpcs"][-1]["VpcId"]], Tags=TAGS)
    assert accounts.vpcs(account, "dev").status == "passed"


def test_a_quota_that_was_never_changed_is_aws_default() -> None:
    client, stubber = stub("service-quotas")
    stubber.add_client_error("get_service_quota", "NoSuchResourceException")
    stubber.add_response("get_aws_default_service_quota", {"Quota": {"Value": 5.0}})
    assert accounts.quota(account_with(service_quotas=client), "ec2", "L-0263D0A3") == 5


def test_a_pool_needs_vcpus_of_its_capacity_types_and_families() -> None:
    client, stubber = stub("service-quotas")
    for code in ("L-DB2E81BA", "L-3819A6DF"):
        asked = {"ServiceCode": "ec2", "QuotaCode": code}
        stubber.add_response("get_service_quota", {"Quota": {"Value": 0.0}}, asked)
    pool = aws_settings("dev").node_pools["gpu"]
    outcome = accounts.vcpus(account_with(service_quotas=client), "gpu", pool)
    assert outcome.status == "warning"
    assert outcome.text.startswith("0 vCPUs on-demand g, 0 vCPUs spot g start no node of the pool gpu, so its tasks")
    stubber.assert_no_pending_responses()


def test_the_role_of_a_session_is_simulated_for_the_stacks_own_names() -> None:
    client, stubber = stub("iam")
    role = {
        "Path": "/sso/",
        "RoleName": "Deployer",
        "RoleId": "A" * 16,
        "Arn": "arn:aws:iam::123456789012:role/sso/Deployer",
        "CreateDate": "2026-01-01T00:00:00Z",
    }
    stubber.add_response("get_role", {"Role": role}, {"RoleName": "Deployer"})
    session = account_with("arn:aws:sts::123456789012:assumed-role/Deployer/ada", iam=client)
    for request in simulations(Scope.of("dev", aws_settings("dev"), session), None):
        stubber.add_response(
            "simulate_principal_policy",
            {
                "EvaluationResults": [
                    {
                        "EvalActionName": action,
                        "EvalDecision": "implicitDeny" if action == "rds:CreateDBInstance" else "allowed",
                    }
                    for action in request["ActionNames"]
                ]
            },
            {"PolicySourceArn": role["Arn"], **request},
        )
    outcome = permissions(session, "dev", aws_settings("dev"))
    assert outcome.status == "failed"
    assert outcome.text.startswith(f"{role['Arn']} may not do rds:CreateDBInstance: extend its policies")
    stubber.assert_no_pending_responses()


def test_an_action_under_a_condition_is_unknown_and_the_root_user_may_do_everything() -> None:
    outcome = judge_permissions(
        "ada", [Decision("ec2:CreateVpc", False, True), Decision("s3:CreateBucket", True, False)]
    )
    assert outcome.status == "unknown"
    assert permissions(account_with("arn:aws:iam::123456789012:root"), "dev", aws_settings("dev")).status == "passed"


def test_refused_permissions_are_an_unknown_outcome() -> None:
    client, stubber = stub("iam")
    stubber.add_client_error("simulate_principal_policy", "AccessDenied")
    check = Check("permissions", lambda: permissions(account_with(iam=client), "dev", aws_settings("dev")))
    assert check.outcome().status == "unknown"


def passing_on(outcome: Outcome) -> Outcome:
    return outcome


def shown(monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome) -> AwsStack:
    found = [Check(f"check {number}", partial(passing_on, outcome)) for number, outcome in enumerate(outcomes)]
    monkeypatch.setattr(doctor, "checks", lambda _: found)
    monkeypatch.setattr(doctor, "checks_of_release", lambda _: ())
    return AwsStack("dev", aws_settings("dev"), pytest.fail)


def test_doctor_exits_with_1_if_a_check_failed_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = shown(monkeypatch, passed("fine"), warning("no quota"), unknown("no network"))
    monkeypatch.setattr(stacks, "resolve_aws", lambda *_: stack)
    monkeypatch.setattr(sys, "argv", ["ops", "doctor", "dev"])
    command.main()
    assert capsys.readouterr().out.splitlines() == [
        "passed   check 0          fine",
        "warning  check 1          no quota",
        "unknown  check 2          no network",
    ]
    shown(monkeypatch, failed("wrong"))
    with pytest.raises(SystemExit, match=r"^1$"):
        command.main()


def test_a_deployment_is_stopped_by_failed_checks_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = passed("fine"), warning("no quota"), unknown("no network")
    doctor.check_before_deployment(shown(monkeypatch, *outcomes), new_console())
    assert capsys.readouterr().out.splitlines() == [
        "warning  check 1          no quota",
        "unknown  check 2          no network",
    ]
    stack = shown(monkeypatch, failed("wrong"), passed("fine"))
    with pytest.raises(OperationError, match=r"^1 check failed: follow the advice above, .* `make doctor STACK=dev`"):
        doctor.check_before_deployment(stack, new_console())


def test_every_check_of_a_stack_has_an_outcome_without_credentials(
    aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "ADDRESS_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "pulumi_command", lambda _: type("Cli", (), {"version": "3.272.0"}))
    stack = AwsStack("dev", aws_settings("dev"), lambda _: None)
    outcomes = {check.name: check.outcome() for check in (*doctor.checks(stack), *doctor.checks_of_release(stack))}
    assert outcomes["placeholders"].status == "passed"
    assert outcomes["credentials"].text.startswith("there are no AWS credentials: log in with `aws sso login`")
    assert {name for name, outcome in outcomes.items() if outcome.status == "failed"} == {
        *("kubectl", "AWS CLI", "credentials", "image builder", "release"),
    }
    assert outcomes["gpu quota"] == unknown("needs working credentials")


def test_every_check_of_a_stack_has_an_outcome_with_an_account(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the mock fails at what it does not have
    monkeypatch.setattr(machine, "ADDRESS_URL", "http://127.0.0.1:9")
    stack = AwsStack("dev", aws_settings("dev"), lambda _: None)
    outcomes = {check.name: check.outcome() for check in doctor._account_checks(stack)}
    assert {outcomes[name].status for name in ("credentials", "region", "zones", "VPC quota")} == {"passed"}
    assert {outcomes[name].status for name in ("permissions", "gpu quota", "address quota")} == {"unknown"}
