"""A stack's settings: read once from `Pulumi.<stack>.yaml`, checked whole before anything is made of them."""

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
