"""Stacks with a server for lineage."""

import configparser
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.configuration import retrieve_configuration_description

from infra.documents import REPOSITORY
from infra.lineage import Lineage
from ops.plan.manifests import Object, objects
from ops.plan.recording import record

from .conftest import of_kind, stack_objects
from .test_network_policies import airflow, judged

Objects = tuple[Object, ...]

SETTING = {"url": "http://marquez.lineage.svc:5000/", "connection": "marquez"}
RULE = {
    "ports": [{"port": 5000, "protocol": "TCP"}],
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "lineage"}}}],
}


@pytest.fixture(scope="module", name="objects")
def objects_(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The objects of the stack `local` with the setting `lineage`."""
    root: Path = tmp_path_factory.mktemp("project")
    (root / "infra").symlink_to(REPOSITORY / "infra")
    shutil.copy(REPOSITORY / "Pulumi.yaml", root)
    content = yaml.safe_load((REPOSITORY / "Pulumi.local.yaml").read_text())
    content["config"]["airflow:lineage"] = SETTING
    (root / "Pulumi.local.yaml").write_text(yaml.safe_dump(content))
    return tuple(objects(record("local", root)))


@pytest.fixture
def files(objects: Objects) -> dict[str, str]:
    return dict(of_kind(objects, "ConfigMap")["airflow-config"]["data"])


def test_components_and_tasks_have_the_same_settings_without_an_api_key(files: dict[str, str]) -> None:
    config = configparser.RawConfigParser()
    config.read_string(files["airflow.cfg"])
    template = yaml.safe_load(files["pod_template_file.yaml"])
    variables = {each["name"]: each.get("value") for each in template["spec"]["containers"][0]["env"]}
    options = dict(config["openlineage"])
    assert {f"AIRFLOW__OPENLINEAGE__{name.upper()}": value for name, value in options.items()}.items() <= (
        variables.items()
    )
    transport = json.loads(options["transport"])
    assert transport["url"] == SETTING["url"]
    assert options["namespace"] == "local"
    assert transport["auth"] == {"type": "airflow_connection_api_key", "conn_id": "marquez"}


@pytest.mark.parametrize("component", ["scheduler", "api-server"])
def test_components_that_send_lineage_reach_its_server(objects: Objects, component: str) -> None:
    assert RULE in judged(objects, "airflow", airflow(component), "Egress")


def test_every_task_reaches_the_server_for_lineage(objects: Objects) -> None:
    assert RULE in judged(objects, "airflow-tasks", {}, "Egress")


def test_the_code_that_the_dag_processor_parses_does_not(objects: Objects) -> None:
    assert RULE not in judged(objects, "airflow", airflow("dag-processor"), "Egress")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://marquez.example.com", "marquez.example.com", 443),
        ("http://marquez.example.com/api", "marquez.example.com", 80),
        ("http://198.51.100.7:5000", "198.51.100.7", 5000),
    ],
)
def test_the_server_is_in_its_address(url: str, host: str, port: int) -> None:
    lineage = Lineage(url, "dev")
    assert (lineage.host, lineage.port) == (host, port)


def test_airflow_knows_every_option_for_lineage() -> None:
    known: Any = retrieve_configuration_description(include_providers=True)
    for section, options in Lineage("https://marquez.example.com", "dev").airflow_settings.items():
        assert options.keys() <= known[section]["options"].keys()


def test_a_stack_without_the_setting_sends_no_lineage() -> None:
    assert "openlineage" not in of_kind(stack_objects("local"), "ConfigMap")["airflow-config"]["data"]["airflow.cfg"]
