"""Which cluster is at hand, and whether a stack may go into it."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pulumi
import yaml


class ContextError(pulumi.RunError):
    """No cluster is at hand, or one that the stack does not go into: one sentence that says what to do."""


def current_context() -> str:
    """Return the context that `kubectl` uses: the first that a file in $KUBECONFIG names, else ~/.kube/config.

    Raises:
        ContextError: There is none.
    """
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    for file in files.split(os.pathsep):
        if context := _context_in(Path(file)):
            return context
    raise ContextError(
        f"no cluster is at hand ({files} names none): start one, such as `kind create cluster`, or name its file in "
        "KUBECONFIG"
    )


def _context_in(file: Path) -> str | None:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content.get("current-context") if isinstance(content, dict) else None


def check_context(stack: str, context: str, allowed: Sequence[str]) -> None:
    """Refuse a cluster that the stack's settings do not name.

    Raises:
        ContextError: They do not.
    """
    if not any(fnmatchcase(context, pattern) for pattern in allowed):
        raise ContextError(
            f"{stack} does not go into the cluster {context}, only into {', '.join(allowed)}: choose one of these with "
            f"`kubectl config use-context`, or add it to airflow:contexts in Pulumi.{stack}.yaml"
        )


def checked_context(stack: str, allowed: Sequence[str]) -> str:
    """Return the context at hand, into which the stack may go.

    Raises:
        ContextError: There is none, or the settings do not name it.
    """
    context = current_context()
    check_context(stack, context, allowed)
    return context
