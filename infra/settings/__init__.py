"""A stack's settings: read once from `Pulumi.<stack>.yaml`, checked whole before anything is made of them."""

from infra.settings.loading import PROJECT, SettingsError, load
from infra.settings.models import (
    ClusterSettings,
    DatabaseSettings,
    DisruptionBudget,
    GpuPoolSettings,
    NetworkSettings,
    NodePoolSettings,
    NodePoolsSettings,
    Settings,
    StorageSettings,
)

__all__ = [
    "PROJECT",
    "ClusterSettings",
    "DatabaseSettings",
    "DisruptionBudget",
    "GpuPoolSettings",
    "NetworkSettings",
    "NodePoolSettings",
    "NodePoolsSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "load",
]
