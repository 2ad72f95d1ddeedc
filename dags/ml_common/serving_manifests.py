"""The Kubernetes objects that serve one model version: a Deployment and its Service, as plain dictionaries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of the container and of the Service: network policies on EKS require that both are the same.
# https://docs.aws.amazon.com/eks/latest/userguide/cni-network-policy.html#cni-network-policy-considerations
PORT = 8080
# A terminating pod keeps answering this long, because nodes route to the new pod a moment after its Service does.
DRAINING_SECONDS = 5
COMPONENT = {"app.kubernetes.io/component": "serving"}

# The user of images/serving/Dockerfile.
USER_ID = 10001

Manifest = dict[str, Any]


@dataclass(frozen=True)
class ServerSize:
    """Resources of a pod; there is no limit of CPU."""

    cpu_request: str
    memory_request: str
    memory_limit: str


# The smallest has room for the server, its decoding process and one image of MAX_DECODING_BYTES (docs/serving.md).
SIZES = {
    "small": ServerSize("250m", "640Mi", "1536Mi"),
    "medium": ServerSize("500m", "1280Mi", "3Gi"),
    "large": ServerSize("1", "2560Mi", "6Gi"),
}


@dataclass(frozen=True)
class ServingSettings:
    """Name, namespace, image, service account, environment variables, size and replicas of a model server."""

    name: str
    namespace: str
    image: str
    service_account: str
    environment: Mapping[str, str] = field(default_factory=dict)
    size: str = "small"
    replicas: int = 1

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the Deployment, its pods and its Service."""
        return {"app.kubernetes.io/name": self.name, **COMPONENT}

    @property
    def credentials_secret(self) -> str:
        """The Secret with the login to the model registry, and the object store's keys if pods have no identity."""
        return f"{self.name}-serving"


def manifests(settings: ServingSettings, version: str) -> list[Manifest]:
    """Return the Service and Deployment of `version`, to be applied in this order."""
    return [_service(settings), _deployment(settings, version)]


def _metadata(settings: ServingSettings) -> Manifest:
    return {"name": settings.name, "namespace": settings.namespace, "labels": settings.labels}


def _service(settings: ServingSettings) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(settings),
        "spec": {
            "selector": settings.labels,
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _deployment(settings: ServingSettings, version: str) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(settings),
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": settings.labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": settings.labels},
                "spec": {
                    "serviceAccountName": settings.service_account,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER_ID,
                        "runAsGroup": USER_ID,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    **_spread(settings),
                    "containers": [_container(settings, version)],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
                },
            },
        },
    }


def _spread(settings: ServingSettings) -> Manifest:
    """Return the constraint that puts replicas on different nodes where there are some."""
    if settings.replicas == 1:
        return {}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {"topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": settings.labels}}]}


def _container(settings: ServingSettings, version: str) -> Manifest:
    environment = {**settings.environment, "MODEL_VERSION": version, "SERVING_PORT": str(PORT)}
    size = SIZES[settings.size]
    probe = {"httpGet": {"path": "/healthz", "port": "http"}}
    return {
        "name": "serving",
        "image": settings.image,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        # A stack that was last deployed when the registry had no logins may not have it.
        "envFrom": [{"secretRef": {"name": settings.credentials_secret, "optional": True}}],
        "resources": {
            "requests": {"cpu": size.cpu_request, "memory": size.memory_request},
            "limits": {"memory": size.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Loading torch and the model takes a while on a small node; the other probes start after this one succeeds.
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 3},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAINING_SECONDS}}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own
    }
