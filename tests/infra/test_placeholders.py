from ipaddress import IPv4Network

import pytest

from infra.settings import load, load_aws
from infra.settings.placeholders import placeholders
from tests.filled_settings import aws_settings


@pytest.mark.parametrize(("stack", "count"), [("dev", 2), ("staging", 3), ("prod", 4), ("local", 0)])
def test_the_stack_files_of_the_repository_contain_placeholders(stack: str, count: int) -> None:
    assert len(list(placeholders(load(stack)))) == count


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_a_teams_own_settings_contain_none(stack: str) -> None:
    assert list(placeholders(aws_settings(stack))) == []


@pytest.mark.parametrize(("network", "count"), [("203.0.113.7/32", 1), ("192.0.2.0/24", 1), ("203.0.114.0/24", 0)])
def test_a_network_for_documentation_is_a_placeholder(network: str, count: int) -> None:
    settings = aws_settings("dev")
    cluster = settings.cluster.model_copy(update={"public_access_cidrs": (IPv4Network(network),)})
    assert len(list(placeholders(settings.model_copy(update={"cluster": cluster})))) == count


def test_an_address_for_documentation_is_a_placeholder() -> None:
    found = list(placeholders(load_aws("prod")))
    assert "airflow:alarms.emails, ml-platform@example.com: set the addresses that get the alarms" in found


def test_the_short_form_of_the_example_repository_is_a_placeholder() -> None:
    settings = load_aws("dev")
    dags = settings.dags.model_copy(update={"repository": "git@github.com:example/dags.git"})
    found = list(placeholders(settings.model_copy(update={"dags": dags})))
    assert found[1] == "airflow:dags.repository, git@github.com:example/dags.git: set your own repository"
