"""Keep a base as long as environments stand on it."""

import json

from infra.aws import database as rds
from infra.errors import OperationError
from infra.existing_cluster_names import platform_namespace
from ops.kubernetes.cluster import Cluster
from ops.previews.records import Records
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment


def check_none_left(deployment: AwsDeployment | ExistingClusterDeployment) -> None:
    """Refuse to destroy a stack whose cluster, database server or buckets others use.

    Raises:
        OperationError: It has preview environments, or its cluster cannot be asked.
    """
    if isinstance(deployment, ExistingClusterDeployment):
        records = Records(deployment.cluster, platform_namespace(deployment.settings.namespace))
    elif "kubeconfig" in (outputs := deployment.outputs()):
        records = Records(Cluster.of_access(json.loads(outputs["kubeconfig"])), rds.SETUP_NAMESPACE)
    else:
        return
    if found := [record.stack for record in records.all()]:
        raise OperationError(
            f"{deployment.stack} has preview environments ({', '.join(found)}): remove each with `make "
            f"preview-env-down`, see `make preview-envs STACK={deployment.stack}`"
        )
