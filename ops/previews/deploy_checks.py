"""Protect a base from destruction while it has preview environments."""

import json

from infra.aws import database as rds
from infra.errors import OperationError
from infra.existing_cluster_names import platform_namespace
from ops.kubernetes.cluster import Cluster
from ops.previews.records import Records
from ops.pulumi.aws_deployment import AwsDeployment
from ops.pulumi.existing_cluster_deployment import ExistingClusterDeployment


def check_none_left(deployment: AwsDeployment | ExistingClusterDeployment) -> None:
    """Refuse to destroy a stack while preview environments use its cluster, database server and buckets.

    Raises:
        OperationError: The stack has preview environments, or the request to its cluster failed.
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
