"""`make github-roles` with Pulumi's own engine, with its state and the identity provider in the mock of AWS."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.errors import OperationError
from ops.aws.account import Account
from ops.pulumi.backend import backend_of
from ops.pulumi.bootstrap import bootstrap
from ops.roles import github_roles
from ops.roles.program import AUDIENCE, ISSUER, provider_arn
from tests.filled_settings import aws_settings
from tests.pulumi_engine import missing_programs

if missing := missing_programs():
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

PROVIDER = "aws:iam/openIdConnectProvider:OpenIdConnectProvider"
ROLE, POLICY = "aws:iam/role:Role", "aws:iam/policy:Policy"
Create = Callable[[str], list[str]]


@pytest.fixture
def create(account: Account, state_in_mock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Create:
    """Return a function that creates the roles of a stack, and returns what it prints."""
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    monkeypatch.setenv("STANDIN_PYTHON", sys.executable)

    def run(stack: str) -> list[str]:
        lines: list[str] = []
        bootstrap(account, backend_of(stack, account.id, account.region), lambda _: None)
        github_roles.create(stack, aws_settings(stack), account, "team/airflow", lines.append)
        return lines

    return run


def resources(account: Account, stack: str) -> list[dict[str, Any]]:
    """Return the resources in the state of the roles of a stack."""
    bucket = backend_of(stack, account.id, account.region).bucket
    key = f".pulumi/stacks/{github_roles.ROLES_PROJECT}/{stack}.json"
    text = account.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return list(json.loads(text)["checkpoint"]["latest"].get("resources") or ())


def names(account: Account, stack: str, type_: str) -> list[str]:
    return sorted(str(one["inputs"]["name"]) for one in resources(account, stack) if one["type"] == type_)


def identities(account: Account, stack: str) -> set[tuple[str, str]]:
    return {(one["urn"], one.get("created", "")) for one in resources(account, stack)}


def test_the_roles_are_created_once_and_can_be_deleted(account: Account, create: Create) -> None:
    first = create("dev")
    assert names(account, "dev", ROLE) == [f"github-airflow-dev-{purpose}" for purpose in ("deploy", "preview", "read")]
    assert names(account, "dev", POLICY)[0] == "github-airflow-dev-boundary"
    before = identities(account, "dev")
    assert any(PROVIDER in urn for urn, _ in before)
    assert create("dev") == first
    assert identities(account, "dev") == before
    lines: list[str] = []
    github_roles.remove("dev", aws_settings("dev"), account, lines.append)
    assert lines == [
        f"deleted the roles of dev; the identity provider {provider_arn(account.id)} stays, for other stacks"
    ]


def test_an_existing_identity_provider_is_used(account: Account, create: Create) -> None:
    iam = account.client("iam")
    iam.create_open_id_connect_provider(Url=f"https://{ISSUER}", ClientIDList=["other"])
    with pytest.raises(
        OperationError, match=r"does not accept the audience sts\.amazonaws\.com: run `aws iam add-client"
    ):
        create("staging")
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn(account.id))
    iam.create_open_id_connect_provider(Url=f"https://{ISSUER}", ClientIDList=["other", AUDIENCE])
    create("staging")
    assert names(account, "staging", ROLE) == ["github-airflow-staging-deploy", "github-airflow-staging-read"]
    assert not [one for one in resources(account, "staging") if one["type"] == PROVIDER]


def test_a_failure_of_pulumi_is_one_sentence(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAIL", "aws:iam/policy:Policy")
    with pytest.raises(OperationError, match="the roles of dev could not be changed: see the output above, and use"):
        create("dev")
    monkeypatch.delenv("STANDIN_FAIL")
    assert create("dev")
