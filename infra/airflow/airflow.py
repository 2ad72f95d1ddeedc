"""Apache Airflow on a platform: the official chart, and the resources that the chart leaves to its user."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow import chart, dags_server
from infra.airflow.admission import Admission
from infra.airflow.network_policies import NetworkPolicies
from infra.airflow.permissions import Permissions
from infra.airflow.priorities import Priorities
from infra.airflow.secrets import Secrets
from infra.airflow.values import checked_values, with_platform
from infra.airflow_names import ADMIN_SECRET, DATABASE_CA, DATABASE_CA_FILE
from infra.airflow_platform import Platform
from infra.settings import TaskSettings

RELEASE = "airflow"


class Airflow(pulumi.ComponentResource):
    """Airflow in its namespace, and the namespace of its tasks.

    Attributes:
        outputs: The outputs of the stack that describe Airflow.
    """

    outputs: Mapping[str, pulumi.Input[str]]

    def __init__(
        self,
        name: str,
        stacks: Sequence[str],
        tasks: TaskSettings,
        platform: Platform,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Deploy Airflow with the Helm values of `stacks`; later stacks override earlier ones.

        Raises:
            ValuesError: A file of helm-values/ is invalid.
            ChartError: The chart cannot be downloaded or saved, or has the wrong digest.
        """
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(providers=[platform.provider]))
        super().__init__("airflow:airflow:Airflow", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)
        values = checked_values(*stacks)
        pooled = bool(values.get("pgbouncer", {}).get("enabled"))

        surroundings: list[pulumi.Resource] = [
            Secrets("secrets", platform, pooled=pooled, opts=child_opts),
            Permissions("permissions", platform, opts=child_opts),
            Priorities("priorities", tasks, platform, opts=child_opts),
            NetworkPolicies("network-policies", platform, pooled=pooled, opts=child_opts),
            Admission("admission", platform, opts=child_opts),
        ]
        if platform.airflow_database.authorities:
            surroundings += _database_authorities(platform, child_opts)
        airflow = kubernetes.helm.v4.Chart(
            RELEASE,
            name=RELEASE,
            namespace=platform.namespace,
            chart=str(chart.archive()),
            values=with_platform(values, platform, tasks),
            opts=pulumi.ResourceOptions.merge(child_opts, pulumi.ResourceOptions(depends_on=surroundings)),
        )
        # Pulumi waits until a Service has pods.
        dags_server.create_service(
            platform, pulumi.ResourceOptions.merge(child_opts, pulumi.ResourceOptions(depends_on=[airflow]))
        )
        self.outputs = {"airflow_admin_secret": ADMIN_SECRET, "airflow_service": f"{RELEASE}-api-server"}

        self.register_outputs(dict(self.outputs))


def _database_authorities(platform: Platform, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
    """Create the ConfigMaps with the certificate authorities of the database server, also for MLflow and for tasks."""
    return [
        kubernetes.core.v1.ConfigMap(
            resource,
            metadata={"name": DATABASE_CA, "namespace": namespace},
            data={DATABASE_CA_FILE: platform.airflow_database.authorities},
            opts=opts,
        )
        for resource, namespace in (
            (DATABASE_CA, platform.namespace),
            (f"tasks-{DATABASE_CA}", platform.tasks_namespace),
        )
    ]
