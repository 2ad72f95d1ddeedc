"""Which cluster is at hand, and whether a stack may go into it."""

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
    """The file by which `kubectl` finds clusters.

    https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
    """

    model_config = ConfigDict(extra="allow")

    current_context: str | None = Field(default=None, alias="current-context")
    clusters: list[Named] | None = None
    users: list[Named] | None = None
    contexts: list[Named] | None = None


class ContextError(OperationError, pulumi.RunError):
    """No cluster is at hand, or one that the stack does not go into: one sentence that says what to do."""


def current_context() -> str:
    """Return the context that `kubectl` uses: the first that a file in $KUBECONFIG names, else ~/.kube/config.

    Raises:
        ContextError: There is none, or a file cannot be read.
    """
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    for file in filter(None, files.split(os.pathsep)):
        if Path(file).exists() and (context := _context_in(Path(file))):
            return context
    raise ContextError(
        f"no cluster is at hand ({files} names none): start one, such as `kind create cluster`, or name its file in "
        "KUBECONFIG"
    )


def _context_in(file: Path) -> str | None:
    try:
        return read_yaml(file, Kubeconfig, empty=Kubeconfig()).current_context
    except DocumentError as error:
        raise ContextError(f"{error}; correct the file, or name another in KUBECONFIG") from None


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
