"""Dashboards and alert rules in labelled ConfigMaps, where Grafana and Prometheus find them."""

from collections.abc import Mapping
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_platform import Platform

FOLDER = Path(__file__).resolve().parent

# The label for the sidecar of Grafana's chart: https://github.com/grafana/helm-charts/tree/main/charts/grafana
DASHBOARD_LABELS = {"grafana_dashboard": "1"}
RULE_LABELS = {"prometheus_rule": "1"}


def contents(folder: str) -> dict[str, str]:
    """Return the files of a folder of this package, by file name."""
    return {path.name: path.read_text() for path in sorted((FOLDER / folder).iterdir())}


class Observability(pulumi.ComponentResource):
    """The ConfigMaps `airflow-dashboards` and `airflow-alert-rules` in Airflow's namespace."""

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the ConfigMaps."""
        super().__init__("airflow:index:Observability", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self, provider=platform.provider)
        self._namespace = platform.namespace

        self._create_config_map("airflow-dashboards", DASHBOARD_LABELS, contents("dashboards"))
        self._create_config_map("airflow-alert-rules", RULE_LABELS, contents("rules"))

        self.register_outputs({})

    def _create_config_map(self, name: str, labels: Mapping[str, str], data: Mapping[str, str]) -> None:
        kubernetes.core.v1.ConfigMap(
            name,
            metadata={"name": name, "namespace": self._namespace, "labels": labels},
            data=data,
            opts=self._child_opts,
        )
