"""The differences between two recordings: added and removed resources, and changed inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ops.plan.resources import Recording, Resource

ABSENT = "(none)"
# Inputs that always differ: the commit, and the kubeconfig of the mock cluster.
VOLATILE = frozenset({"defaultTags.tags.commit", "kubeconfig"})


@dataclass(frozen=True)
class Change:
    """One input that differs.

    Attributes:
        path: Its path, such as `vpcConfig.subnetIds.0`.
        before: Its value in the older recording, or `(none)`.
        after: Its value in the newer one, or `(none)`.
    """

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Changed:
    """A resource that is in both recordings, with its changed inputs."""

    resource: Resource
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Difference:
    """The changes from one recording to another."""

    added: tuple[Resource, ...]
    removed: tuple[Resource, ...]
    changed: tuple[Changed, ...]

    def __bool__(self) -> bool:
        """Return whether there are any differences."""
        return bool(self.added or self.removed or self.changed)


def difference(before: Recording, after: Recording) -> Difference:
    """Compare two recordings, resource by resource.

    If the stacks differ, their names in resource names, tags and ARNs are ignored.
    """
    older, newer = _by_identity(before), _by_identity(after)
    names = (before.stack, after.stack) if before.stack != after.stack else ()
    pairs = [(older[key], newer[key]) for key in sorted(older.keys() & newer.keys())]
    compared = [Changed(new, tuple(changes(_compared(old), _compared(new), names))) for old, new in pairs]
    return Difference(
        added=tuple(newer[key] for key in sorted(newer.keys() - older.keys())),
        removed=tuple(older[key] for key in sorted(older.keys() - newer.keys())),
        changed=tuple(entry for entry in compared if entry.changes),
    )


def _by_identity(recording: Recording) -> dict[str, Resource]:
    """Key the resources by type and name, without the name of the stack."""
    prefix = f"urn:pulumi:{recording.stack}::"
    own = f"::{recording.project}-{recording.stack}"
    return {resource.urn.removeprefix(prefix).removesuffix(own): resource for resource in recording.resources}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], stacks: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield every leaf that differs between nested values, ignoring the names of the given stacks."""
    older, newer = leaves(before), leaves(after)
    for path in sorted((older.keys() | newer.keys()) - VOLATILE):
        left, right = older.get(path, ABSENT), newer.get(path, ABSENT)
        if _neutral(left, stacks) != _neutral(right, stacks):
            yield Change(path, left, right)


def _compared(resource: Resource) -> dict[str, Any]:
    return {**resource.inputs, "(protected)": resource.protect}


def _neutral(text: str, stacks: tuple[str, ...]) -> str:
    for stack in stacks:
        text = re.sub(rf"(?<![a-zA-Z0-9]){re.escape(stack)}(?![a-zA-Z0-9])", "<stack>", text)
    return text


def leaves(value: Any, path: str = "") -> dict[str, str]:
    """Return the leaves of nested inputs by path; JSON text is parsed, and a list of scalars is one leaf."""
    value = opened(value)
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return {path: ", ".join(map(str, value))}
    if isinstance(value, Mapping) and (value or not path):
        return {key: leaf for name in value for key, leaf in leaves(value[name], f"{path}.{name}".lstrip(".")).items()}
    if isinstance(value, list):
        return {key: leaf for index, item in enumerate(value) for key, leaf in leaves(item, f"{path}.{index}").items()}
    return {path: value if isinstance(value, str) else json.dumps(value)}


def opened(value: Any) -> Any:
    """Parse a text that is a JSON object or list; return any other value unchanged."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
