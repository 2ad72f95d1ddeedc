"""Add a cluster to a kubeconfig file and keep its other entries."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.documents import DocumentError, read_yaml
from infra.errors import OperationError
from infra.existing_cluster.context import Kubeconfig

SECTIONS = ("clusters", "users", "contexts")
EMPTY: Mapping[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}


def kubeconfig_file() -> Path:
    """Return the file that `kubectl` reads: the first in $KUBECONFIG, else ~/.kube/config."""
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first) if first else Path.home() / ".kube" / "config"


def write(file: Path, access: Mapping[str, Any]) -> None:
    """Merge a cluster's access into a file that only its owner can read.

    Raises:
        OperationError: The file is not a kubeconfig.
    """
    existing = EMPTY
    if file.exists():
        try:
            read_yaml(file, Kubeconfig, empty=Kubeconfig())
            existing = read_yaml(file, dict[str, Any], empty=dict(EMPTY))
        except DocumentError as error:
            raise OperationError(f"{error}; nothing was added to it: correct it or move it away") from error
    text = yaml.safe_dump(merged(existing, access), sort_keys=False)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(text)
    temporary.replace(file)


def merged(existing: Mapping[str, Any], access: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kubeconfig where the new entries replace those with the same names, and the new context is current."""
    sections = {section: _replaced(existing.get(section) or [], access[section]) for section in SECTIONS}
    return {**existing, **sections, "current-context": access["current-context"]}


def _replaced(old: list[Any], new: list[Any]) -> list[Any]:
    names = {entry["name"] for entry in new}
    return [entry for entry in old if entry["name"] not in names] + new
