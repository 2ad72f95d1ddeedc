"""A stack's settings: read from `Pulumi.<stack>.yaml` and validated as a whole before they are used."""

from infra.settings.loading import PROJECT, SettingsError, StackSettings, load, load_aws
from infra.settings.models import (
    AlarmSettings,
    ClusterSettings,
    DagSettings,
    DatabaseSettings,
    DisruptionBudget,
    ExistingClusterSettings,
    GateSettings,
    NetworkSettings,
    NodePools,
    NodePoolSettings,
    ReleaseSettings,
    Settings,
    StorageSettings,
    Taint,
    TaskSettings,
)

__all__ = [
    "PROJECT",
    "AlarmSettings",
    "ClusterSettings",
    "DagSettings",
    "DatabaseSettings",
    "DisruptionBudget",
    "ExistingClusterSettings",
    "GateSettings",
    "NetworkSettings",
    "NodePoolSettings",
    "NodePools",
    "ReleaseSettings",
    "Settings",
    "SettingsError",
    "StackSettings",
    "StorageSettings",
    "Taint",
    "TaskSettings",
    "load",
    "load_aws",
]
