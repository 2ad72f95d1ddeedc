"""The platform of a preview environment: its own resources, and those shared with its base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from infra.airflow_platform import Platform
from infra.previews.settings import VALUES, load_preview, tasks_of
from infra.settings import ExistingClusterSettings, TaskSettings, load


def create(stack: str, folder: Path) -> tuple[tuple[str, ...], TaskSettings, Platform, Mapping[str, Any]]:
    """Create the environment's own resources.

    Returns:
        The stacks whose Helm values apply, the task limits, the platform and the stack's outputs.

    Raises:
        ContextError: No Kubernetes context is selected, or the base may not use it.
        SettingsError: The settings of the environment or of its base are missing or invalid.
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
