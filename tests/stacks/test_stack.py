"""The namespaces of a stack's Airflow, the source of its DAGs, and access to its cluster."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import OperationError
from infra.settings import DagSettings, ExistingClusterSettings, Settings, load, load_aws
from ops.airflow import dags
from ops.aws.account import Account
from ops.aws.eks_cluster import EksCluster
from ops.stacks.aws_stack import AwsStack
from ops.stacks.existing_cluster_stack import ExistingClusterStack
from tests.programs import put_on_path

ROLE = "arn:aws:iam::123456789012:role/deploy"


def local(**changes: Any) -> ExistingClusterStack:
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    return ExistingClusterStack("local", settings.model_copy(update=changes), pytest.fail)


def test_a_stack_on_an_existing_cluster_follows_its_own_git_server() -> None:
    found = local()
    assert found.git_server == "git-0"
    assert (found.diagnosis.repository, found.diagnosis.branch) == ("git://git.airflow-platform/dags.git", "local")


def test_a_stack_on_an_existing_cluster_may_follow_a_teams_repository() -> None:
    found = local(dags=DagSettings(repository="https://example.com/dags.git", branch="dev"), registry="r.example")
    assert found.git_server is None
    assert (found.diagnosis.repository, found.diagnosis.branch) == ("https://example.com/dags.git", "dev")
    assert found.diagnosis.registry == "r.example"


def test_nothing_is_synced_to_a_teams_repository() -> None:
    found = local(dags=DagSettings(repository="https://example.com/dags.git", branch="dev"))
    with pytest.raises(
        OperationError, match=r"^local follows dev of https://example\.com/dags\.git: push to it with `git push`$"
    ):
        dags.push(found, pytest.fail)


CLUSTER = EksCluster("airflow-dev-cluster", "us-east-1", {})


def on_aws(cluster: EksCluster | None, **changes: Any) -> AwsStack:
    stack = AwsStack("dev", load_aws("dev").model_copy(update=changes), pytest.fail)
    vars(stack)["eks_cluster"] = cluster
    return stack


def test_the_aws_cli_adds_the_cluster_to_the_kubeconfig_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(monkeypatch, tmp_path / "bin" / "aws", '#!/bin/sh\necho "$*" >> "$CALLS"\n')
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    on_aws(CLUSTER).add_to_kubeconfig(None)
    on_aws(CLUSTER, deploy_role_arn=ROLE).add_to_kubeconfig(Path("/a file"))
    command = "eks update-kubeconfig --name airflow-dev-cluster --region us-east-1"
    assert (tmp_path / "calls").read_text().splitlines() == [
        command,
        f"{command} --role-arn {ROLE} --kubeconfig /a file",
    ]


@pytest.mark.parametrize(
    ("cluster", "program", "sentence"),
    [
        (None, "exit 0", r"^dev has no cluster yet: run `make deploy STACK=dev` first$"),
        (CLUSTER, "exit 1", r"^`aws eks update-kubeconfig` failed: see the output "),
        (CLUSTER, None, r"^the AWS CLI is not on PATH: install it, see https://"),
    ],
)
def test_access_that_cannot_be_added_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: EksCluster | None, program: str | None, sentence: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if program:
        put_on_path(monkeypatch, tmp_path / "bin" / "aws", f"#!/bin/sh\n{program}\n")
    with pytest.raises(OperationError, match=sentence):
        on_aws(cluster).add_to_kubeconfig(None)


def test_the_cluster_is_the_one_that_exists_now(account: Account, settings: Settings) -> None:
    eks = account.client("eks")
    stack = AwsStack("dev", settings, pytest.fail)
    vars(stack).update(account=account, outputs={"kubeconfig": "of a cluster that was deleted"})
    assert not stack.has_cluster
    del stack.eks_cluster
    created = eks.create_cluster(name="airflow-dev-cluster", roleArn=ROLE, resourcesVpcConfig={})["cluster"]
    assert stack.has_cluster
    assert stack.cluster.client.configuration.host == created["endpoint"].rstrip("/")


def test_a_cluster_that_exists_already_is_in_the_kubeconfig_file() -> None:
    with pytest.raises(OperationError, match=r"^your kubeconfig already contains the cluster of local: select it with"):
        local().add_to_kubeconfig(None)
