"""What an environment has of its own, and what it has of its base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from infra.airflow_platform import Platform
from infra.previews.settings import VALUES, load_preview, tasks_of
from infra.settings import ExistingClusterSettings, TaskSettings, load


def create(stack: str, folder: Path) -> tuple[tuple[str, ...], TaskSettings, Platform, Mapping[str, Any]]:
    """Make what is the environment's own.

    Return whose values Airflow has, what its tasks may ask for, the platform, and the outputs of the stack.

    Raises:
        ContextError: No cluster is at hand, or one that the base's settings do not name.
        SettingsError: The settings of the environment or of its base are missing, or something in them is wrong.
    """
    settings = load_preview(stack, folder)
    base = load(settings.base, folder)
    stack_of_base = f"{pulumi.get_organization()}/{pulumi.get_project()}/{settings.base}"
    outputs = pulumi.StackReference(stack_of_base).require_output
    if isinstance(base, ExistingClusterSettings):
        from infra.previews import existing_cluster

        platform = existing_cluster.create(settings, base, outputs)
    else:
        from infra.previews import aws

        platform = aws.create(settings, base, outputs)
    about = {
        "base": settings.base,
        "branch": settings.branch,
        "expires_at": settings.expires_at.isoformat(),
        "namespace": platform.namespace,
        "prefix": settings.prefix,
    }
    return (settings.base, VALUES), tasks_of(base), platform, about
