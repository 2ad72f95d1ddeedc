"""The server from which tasks fetch the DAGs when they start: a container next to the dag-processor's git-sync.

Tasks need neither the key of the repository nor a connection to its host, and start without cloning it.
"""

from pathlib import PurePosixPath
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from infra.airflow_names import COMPONENT_LABEL, DAGS_LINK, DAGS_SERVER, DAGS_SERVER_PORT
from infra.airflow_platform import Component, DagSource, Platform

PORT_NAME = "dags"


def container(image: pulumi.Output[str], dags: DagSource, security_context: dict[str, Any]) -> dict[str, Any]:
    """Return the container, for images/airflow/lib/dags_server.py."""
    healthy = {"httpGet": {"path": "/health", "port": PORT_NAME}}
    return {
        "name": "dags-server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "dags_server", DAGS_LINK, dags.folder],
        "ports": [{"name": PORT_NAME, "containerPort": DAGS_SERVER_PORT}],
        "readinessProbe": {**healthy, "periodSeconds": 5},
        "livenessProbe": {**healthy, "periodSeconds": 30, "failureThreshold": 5},
        "volumeMounts": [{"name": "dags", "mountPath": str(PurePosixPath(DAGS_LINK).parent), "readOnly": True}],
        "securityContext": security_context,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    }


def url(namespace: pulumi.Output[str]) -> pulumi.Output[str]:
    """Return the address of the archive with the DAGs of the newest commit."""
    return pulumi.Output.format("http://{0}.{1}:{2}/dags.tar.gz", DAGS_SERVER, namespace, DAGS_SERVER_PORT)


def create_service(platform: Platform, opts: pulumi.ResourceOptions) -> kubernetes.core.v1.Service:
    """Create the Service."""
    return kubernetes.core.v1.Service(
        DAGS_SERVER,
        metadata={"name": DAGS_SERVER, "namespace": platform.namespace},
        spec={
            "selector": {"tier": "airflow", COMPONENT_LABEL: Component.DAG_PROCESSOR.value},
            "ports": [{"name": PORT_NAME, "port": DAGS_SERVER_PORT, "target_port": PORT_NAME}],
        },
        opts=opts,
    )
