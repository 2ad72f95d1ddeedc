"""The location of a stack's Airflow and the source of its DAGs."""

from typing import Any, cast

import pytest

from infra.errors import OperationError
from infra.settings import DagSettings, ExistingClusterSettings, load
from ops.airflow import dags
from ops.airflow.installation import Installation, on_existing_cluster
from ops.kubernetes.cluster import Cluster

CLUSTER = cast(Cluster, object())


def installation(**changes: Any) -> Installation:
    settings = load("local")
    assert isinstance(settings, ExistingClusterSettings)
    return on_existing_cluster("local", settings.model_copy(update=changes), CLUSTER)


def test_a_stack_on_an_existing_cluster_follows_its_own_git_server() -> None:
    found = installation()
    assert found.git_server == "git-0"
    assert (found.diagnosis.repository, found.diagnosis.branch) == ("git://git.airflow-platform/dags.git", "local")


def test_a_stack_on_an_existing_cluster_may_follow_a_teams_repository() -> None:
    found = installation(
        dags=DagSettings(repository="https://example.com/dags.git", branch="dev"), registry="r.example"
    )
    assert found.git_server is None
    assert (found.diagnosis.repository, found.diagnosis.branch) == ("https://example.com/dags.git", "dev")
    assert found.diagnosis.registry == "r.example"


def test_nothing_is_synced_to_a_teams_repository() -> None:
    found = installation(dags=DagSettings(repository="https://example.com/dags.git", branch="dev"))
    with pytest.raises(
        OperationError, match=r"^local follows dev of https://example\.com/dags\.git: push to it with `git push`$"
    ):
        dags.push(found, pytest.fail)
