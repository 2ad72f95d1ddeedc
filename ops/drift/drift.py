"""Find what was changed outside Pulumi, in the cluster or in the AWS account."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.text import Text

from ops.plan.difference import ABSENT, Change, leaves
from ops.plan.resources import SECRET

# Refresh operations that mean no change.
UNCHANGED = frozenset({"same", "refresh", "read"})
# Values of these types are never shown, even if Pulumi does not mark them as secret.
SECRET_TYPES = re.compile(r"secret|password|privatekey", re.IGNORECASE)
# A step of a path such as `spec.containers[0].resources.limits["nvidia.com/gpu"]`.
STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([^.\[]+)')


@dataclass(frozen=True)
class Drifted:
    """A resource that differs from Pulumi's state.

    Attributes:
        type: Its type, such as `kubernetes:apps/v1:Deployment`.
        name: Its name in the program.
        id: Its name in the cluster or the account.
        deleted: Whether it was deleted.
        changes: Pulumi's state and what is deployed, by property; empty if the resource was deleted.
    """

    type: str
    name: str
    id: str
    deleted: bool
    changes: tuple[Change, ...] = ()

    def __str__(self) -> str:
        """Return the type, the name and the ID."""
        return f"{self.type} {self.name}" + (f" [{self.id}]" if self.id not in ("", self.name) else "")


def drifted(report: Mapping[str, Any]) -> tuple[Drifted, ...]:
    """Return the resources that a refresh would change, from Pulumi's report, without the values of secrets."""
    steps = (step for step in report.get("steps", ()) if step["op"] not in UNCHANGED)
    return tuple(sorted(map(_drifted, steps), key=str))


def known(found: tuple[Drifted, ...]) -> tuple[Drifted, ...]:
    """Leave out changes of secrets, for a state without secrets, where every secret would look changed."""
    kept = (replace(one, changes=tuple(change for change in one.changes if change.before != SECRET)) for one in found)
    return tuple(one for one in kept if one.deleted or one.changes)


def show(console: Console, stack: str, found: tuple[Drifted, ...], left_out: int = 0) -> None:
    """Print what drifted, by property, what to do, and how many resources were skipped."""
    for resource in found:
        if resource.deleted:
            console.out(f"- {resource}: deleted", style="red")
        else:
            console.out(f"~ {resource}", style="yellow")
        for change in resource.changes:
            for line in lines(change):
                console.out(f"    {line}")
    if left_out:
        console.print(f"{left_out} resources that contain only secrets were not compared")
    if not found:
        console.out(f"{stack} has no drift")
        return
    deleted = sum(resource.deleted for resource in found)
    console.print(
        Text(f"{stack} has drifted: {len(found) - deleted} changed, {deleted} deleted. ", style="bold"),
        Text(f"`make deploy STACK={stack} REFRESH=1` undoes these changes"),
        sep="",
    )


def lines(change: Change) -> Iterator[str]:
    """Yield the change of a property; for multi-line text only the lines that differ."""
    if "\n" not in change.before + change.after:
        yield f"{change.path}: {change.before} -> {change.after}"
        return
    yield f"{change.path}:"
    compared = difflib.unified_diff(change.before.splitlines(), change.after.splitlines(), n=0, lineterm="")
    yield from (f"  {line}" for line in list(compared)[2:] if not line.startswith("@@"))


def _drifted(step: Mapping[str, Any]) -> Drifted:
    old, new = step.get("oldState") or {}, step.get("newState") or {}
    kind, name = step["urn"].split("::", 3)[2:]
    kind = kind.rpartition("$")[2]
    deleted = step["op"] == "delete"
    paths = step.get("detailedDiff") or step.get("diffReasons") or ()
    changes = () if deleted else tuple(change for path in sorted(paths) for change in _changes(path, old, new))
    if SECRET_TYPES.search(kind):
        changes = tuple(Change(change.path, SECRET, SECRET) for change in changes)
    return Drifted(kind, name, str(old.get("id", "")), deleted, changes)


def _changes(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the differences at and below a path: in the resource's inputs, else in its outputs."""
    for kind in ("inputs", "outputs"):
        before, after = (_walk(state.get(kind, {}), path) for state in (old, new))
        left, right = ({} if value is None else leaves(value, path) for value in (before, after))
        differing = [leaf for leaf in sorted(left.keys() | right.keys()) if left.get(leaf) != right.get(leaf)]
        if differing:
            yield from (Change(leaf, left.get(leaf, ABSENT), right.get(leaf, ABSENT)) for leaf in differing)
            return
        if SECRET in left.values():  # only Pulumi knows the values
            yield Change(path, SECRET, SECRET)
            return


def _walk(value: Any, path: str) -> Any:
    for quoted, index, plain in STEP.findall(path):
        if value == SECRET:
            return SECRET
        if index and isinstance(value, list):
            value = value[int(index)] if int(index) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(quoted.replace('\\"', '"') or plain or index)
        else:
            return None
    return value
