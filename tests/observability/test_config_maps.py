import json

import pytest
import yaml

from ops.plan.resources import Resource
from tests.recordings import recorded

# Pulumi's deprecated classes warn on import, even if they are not used.
pytestmark = pytest.mark.filterwarnings("ignore:.* has been deprecated in favor of:DeprecationWarning")


@pytest.fixture(scope="module")
def config_maps() -> dict[str, Resource]:
    found = recorded("dev").of_type("kubernetes:core/v1:ConfigMap")
    return {resource.name: resource for resource in found}


def test_grafana_finds_every_dashboard(config_maps: dict[str, Resource]) -> None:
    inputs = config_maps["airflow-dashboards"].inputs
    assert inputs["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert {json.loads(content)["uid"] for content in inputs["data"].values()} == {"airflow", "airflow-tasks"}
    assert all(name.endswith(".json") for name in inputs["data"])


def test_prometheus_finds_the_rules(config_maps: dict[str, Resource]) -> None:
    inputs = config_maps["airflow-alert-rules"].inputs
    assert inputs["metadata"]["labels"] == {"prometheus_rule": "1"}
    assert yaml.safe_load(inputs["data"]["airflow.yaml"])["groups"]


def test_the_config_maps_are_in_airflows_namespace(config_maps: dict[str, Resource]) -> None:
    for name in ("airflow-dashboards", "airflow-alert-rules"):
        assert config_maps[name].inputs["metadata"]["namespace"] == "airflow"
