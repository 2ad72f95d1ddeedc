"""A stack's settings: read from `Pulumi.<stack>.yaml` and validated as a whole before they are used."""

from infra.settings.loading import PROJECT, SettingsError, StackSettings, load, load_aws
from infra.settings.models import (
    ClusterSettings,
    DagSettings,
    DatabaseSettings,
    DisruptionBudget,
    ExistingClusterSettings,
    GateSettings,
    GpuPoolSettings,
    NetworkSettings,
    NodePoolSettings,
    NodePoolsSettings,
    ReleaseSettings,
    Settings,
    StorageSettings,
    TaskSettings,
)

__all__ = [
    "PROJECT",
    "ClusterSettings",
    "DagSettings",
    "DatabaseSettings",
    "DisruptionBudget",
    "ExistingClusterSettings",
    "GateSettings",
    "GpuPoolSettings",
    "NetworkSettings",
    "NodePoolSettings",
    "NodePoolsSettings",
    "ReleaseSettings",
    "Settings",
    "SettingsError",
    "StackSettings",
    "StorageSettings",
    "TaskSettings",
    "load",
    "load_aws",
]
