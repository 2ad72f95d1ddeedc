"""The current Kubernetes context, and whether a stack may use it."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pulumi
from pydantic import BaseModel, ConfigDict, Field

from infra.documents import DocumentError, read_yaml
from infra.errors import OperationError


class Named(BaseModel):
    """An entry of a kubeconfig."""

    model_config = ConfigDict(extra="allow")

    name: str


class Kubeconfig(BaseModel):
    """The configuration file of `kubectl`.

    https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
    """

    model_config = ConfigDict(extra="allow")

    current_context: str | None = Field(default=None, alias="current-context")
    clusters: list[Named] | None = None
    users: list[Named] | None = None
    contexts: list[Named] | None = None


class ContextError(OperationError, pulumi.RunError):
    """No context is selected, or the stack may not use it: one sentence that says what to do."""


def current_context() -> str:
    """Return the current context of `kubectl`: the first one set in a file of $KUBECONFIG or in ~/.kube/config.

    Raises:
        ContextError: No context is set, or a file cannot be read.
    """
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    for file in filter(None, files.split(os.pathsep)):
        if Path(file).exists() and (context := _context_in(Path(file))):
            return context
    raise ContextError(
        f"no Kubernetes context is selected in {files}: start a cluster, for example with `kind create cluster`, or "
        "set KUBECONFIG to its file"
    )


def _context_in(file: Path) -> str | None:
    try:
        return read_yaml(file, Kubeconfig, empty=Kubeconfig()).current_context
    except DocumentError as error:
        raise ContextError(f"{error}; correct the file, or name another in KUBECONFIG") from None


def check_context(stack: str, context: str, allowed: Sequence[str]) -> None:
    """Refuse a context that the stack's settings do not allow.

    Raises:
        ContextError: The context is not allowed.
    """
    if not any(fnmatchcase(context, pattern) for pattern in allowed):
        raise ContextError(
            f"{stack} may not use the context {context}, only {', '.join(allowed)}: select one with "
            f"`kubectl config use-context`, or add this one to airflow:contexts in Pulumi.{stack}.yaml"
        )


def checked_context(stack: str, allowed: Sequence[str]) -> str:
    """Return the current context after checking that the stack may use it.

    Raises:
        ContextError: No context is set, or it is not allowed.
    """
    context = current_context()
    check_context(stack, context, allowed)
    return context
