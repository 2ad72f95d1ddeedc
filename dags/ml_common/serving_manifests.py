"""The Kubernetes objects that serve one model version: a Deployment and its Service, as plain dictionaries."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_common.content_keys import content_key

# Of the container and of the Service: network policies on EKS require that both are the same.
# https://docs.aws.amazon.com/eks/latest/userguide/cni-network-policy.html#cni-network-policy-considerations
PORT = 8080
# A terminating pod keeps answering this long, because nodes route to the new pod a moment after its Service does.
DRAINING_SECONDS = 5
COMPONENT = {"app.kubernetes.io/component": "serving"}

# The user of images/serving/Dockerfile.
USER_ID = 10001

# As in infra/airflow_names.py: the authorities of the database server's certificate.
DATABASE_CA, DATABASE_CA_FOLDER = "database-ca", "/etc/database-ca"
SECRETS_ANNOTATION = "checksum/passed-secrets"

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
    """How a model is served; `reads_features` is whether the server reads the feature store's database."""

    name: str
    namespace: str
    image: str
    service_account: str
    environment: Mapping[str, str] = field(default_factory=dict)
    size: str = "small"
    replicas: int = 1
    reads_features: bool = False

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the Deployment, its pods and its Service."""
        return {"app.kubernetes.io/name": self.name, **COMPONENT}

    @property
    def credentials_secret(self) -> str:
        """The Secret with the login to the model registry, and the object store's keys if pods have no identity."""
        return f"{self.name}-serving"

    @property
    def passed_secret(self) -> str:
        """The Secret into which the task that deploys puts variables for the server."""
        return f"{self.name}-passed"


def manifests(settings: ServingSettings, version: str, secrets: Mapping[str, str] | None = None) -> list[Manifest]:
    """Return the objects of `version` in the order in which they are applied: the Service and the Deployment last."""
    secret = [] if secrets is None else [_secret(settings, secrets)]
    return [*secret, _service(settings), _deployment(settings, version, secrets)]


def _secret(settings: ServingSettings, secrets: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": settings.passed_secret, "namespace": settings.namespace},
        "data": {name: b64encode(value.encode()).decode() for name, value in secrets.items()},
    }


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


def _deployment(settings: ServingSettings, version: str, secrets: Mapping[str, str] | None) -> Manifest:
    # A pod reads the Secret when it starts, so another key needs a new pod.
    annotations = {"annotations": {SECRETS_ANNOTATION: content_key(dict(secrets))}} if secrets else {}
    # Where connections to the database are not encrypted, there is no such ConfigMap.
    config_map = {"name": DATABASE_CA, "optional": True}
    authorities = [{"name": DATABASE_CA, "configMap": config_map}] if settings.reads_features else []
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(settings),
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": settings.labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": settings.labels, **annotations},
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
                    "containers": [_container(settings, version, secrets)],
                    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, *authorities],
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


def _container(settings: ServingSettings, version: str, secrets: Mapping[str, str] | None) -> Manifest:
    environment = {**settings.environment, "MODEL_VERSION": version, "SERVING_PORT": str(PORT)}
    size = SIZES[settings.size]
    names = [settings.credentials_secret, *([] if secrets is None else [settings.passed_secret])]
    mount = {"name": DATABASE_CA, "mountPath": DATABASE_CA_FOLDER, "readOnly": True}
    authorities = [mount] if settings.reads_features else []
    probe = {"httpGet": {"path": "/healthz", "port": "http"}}
    return {
        "name": "serving",
        "image": settings.image,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        # A stack that was last deployed when the registry had no logins may not have the first one.
        "envFrom": [{"secretRef": {"name": name, "optional": True}} for name in names],
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
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *authorities],  # noqa: S108 - the pod's own
    }
