import json
from typing import Any

import pytest

from infra.errors import OperationError
from infra.settings import Settings
from ops.aws.account import Account
from ops.cli.stacks import check_confirmation
from ops.console import Echo
from ops.pulumi.deployment import Deployment
from ops.stacks.aws_stack import AwsStack
from ops.teardown import aws_teardown


@pytest.mark.parametrize(
    ("stack", "typed", "protected", "yes"),
    [
        ("dev", "dev", False, False),
        ("dev", None, False, True),
        ("prod", "prod", True, False),
        ("prod", "prod", True, True),
    ],
)
def test_a_confirmed_destruction_proceeds(stack: str, typed: str | None, protected: bool, yes: bool) -> None:
    check_confirmation(stack, typed, protected=protected, yes=yes)


@pytest.mark.parametrize(
    ("stack", "typed", "protected", "yes", "hint"),
    [
        ("dev", None, False, False, "YES=1 or CONFIRM=dev"),
        ("dev", "prod", False, False, "YES=1 or CONFIRM=dev"),
        ("prod", None, True, True, "CONFIRM=prod"),
        ("prod", "dev", True, True, "CONFIRM=prod"),
        ("prod", None, False, True, "CONFIRM=prod"),
        ("qa", None, True, True, "CONFIRM=qa"),
    ],
)
def test_prod_and_protected_stacks_require_their_names(
    stack: str, typed: str | None, protected: bool, yes: bool, hint: str
) -> None:
    with pytest.raises(OperationError, match=f"^nothing was destroyed: type {stack} at the prompt, or set {hint}$"):
        check_confirmation(stack, typed, protected=protected, yes=yes)


class Steps(list[str]):
    """What was done, in order."""

    def destroy(
        self,
        account: Account,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
        outputs: dict[str, Any],
        echo: Echo = lambda _: None,
    ) -> None:
        """Destroy the stack dev with these settings and outputs."""
        deployment = Deployment("dev", "pulumi", {})
        monkeypatch.setattr(Deployment, "run", lambda _, *arguments: self.append(" ".join(arguments)))
        monkeypatch.setattr(
            aws_teardown, "delete_contents", lambda access, _: self.append(f"contents of {access['name']}")
        )
        stack = AwsStack("dev", settings, echo)
        vars(stack).update(account=account, deployment=deployment, outputs=outputs)
        stack.destroy()


def cluster(account: Account) -> dict[str, str]:
    account.client("eks").create_cluster(
        name="airflow-dev-cluster", roleArn="arn:aws:iam::123456789012:role/x", resourcesVpcConfig={}
    )
    return {"cluster_name": "airflow-dev-cluster", "kubeconfig": json.dumps({"name": "airflow-dev-cluster"})}


def test_the_clusters_contents_are_deleted_before_the_cluster(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()
    said: list[str] = []
    steps.destroy(account, settings, monkeypatch, cluster(account), said.append)
    assert steps == ["contents of airflow-dev-cluster", "destroy --yes --refresh"]
    assert said[-1].startswith("nothing of dev is left")


@pytest.mark.parametrize("outputs", [{}, {"cluster_name": "airflow-dev-cluster", "kubeconfig": "{}"}])
def test_a_stack_whose_cluster_is_already_deleted_is_destroyed(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch, outputs: dict[str, Any]
) -> None:
    steps = Steps()
    steps.destroy(account, settings, monkeypatch, outputs)
    assert steps == ["destroy --yes --refresh"]


def test_protection_is_disabled_for_a_protected_stack_only(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.client("rds").create_db_instance(
        DBInstanceIdentifier="other-database", DBInstanceClass="db.t4g.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="longenough", AllocatedStorage=20, DeletionProtection=True,
    )  # fmt: skip
    steps = Steps()
    protected = settings.model_copy(update={"protect": True})
    outputs = {"database_host": "other-database.invented.us-east-1.rds.amazonaws.com"}
    steps.destroy(account, protected, monkeypatch, outputs)
    assert steps == ["state unprotect --all --yes", "destroy --yes --refresh"]
    assert not account.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"]


def test_an_interrupted_destruction_of_a_protected_stack_continues(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()
    protected = settings.model_copy(update={"protect": True})
    outputs = {"cluster_name": "gone", "kubeconfig": "{}", "database_host": "gone.rds.amazonaws.com"}
    steps.destroy(account, protected, monkeypatch, outputs)
    assert steps == ["state unprotect --all --yes", "destroy --yes --refresh"]
