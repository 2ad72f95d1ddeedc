"""Settle the operations that an interrupted Pulumi command left in the state.

Pulumi records an operation before it starts. If Pulumi is killed, it does not know the result: `pulumi up` would create
an existing resource again, and keep a deleted one in the state. `pulumi refresh --import-pending-creates` only forgets
the creations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.console import Echo
from ops.pulumi.deployment import Deployment

# Marks a resource in the state until a refresh has read it, also if that is interrupted.
UNREAD = "the creation was interrupted"


@dataclass(frozen=True)
class Created:
    """A resource that an interrupted creation may have left: its ID, and outputs by which its provider reads it."""

    id: str
    outputs: Mapping[str, Any] = field(default_factory=dict)


# Returns the resources with the type and the inputs of a creation.
Lookup = Callable[[str, Mapping[str, Any]], list[Created]]


def settle(deployment: Deployment, look_up: Lookup, echo: Echo) -> None:
    """Import what interrupted creations left, and read again what other interrupted operations changed.

    Raises:
        OperationError: The state cannot be changed, or a resource cannot be looked up or read.
    """
    state = deployment.exported()
    content = state["deployment"]
    operations = content.pop("pending_operations", None) or []
    for operation in operations:
        if operation["type"] == "creating":
            _settle_creation(content["resources"], operation["resource"], look_up, echo)
    if operations:
        deployment.replace_state(state)
    interrupted = {operation["resource"]["urn"] for operation in operations}
    unread = [
        resource["urn"]
        for resource in content.get("resources", ())
        if resource["urn"] in interrupted or UNREAD in resource.get("initErrors", ())
    ]
    if unread:
        targets = [word for urn in unread for word in ("--target", urn)]
        deployment.run("refresh", "--yes", "--skip-preview", *targets)


def _settle_creation(resources: list[dict[str, Any]], interrupted: dict[str, Any], look_up: Lookup, echo: Echo) -> None:
    name = interrupted["urn"].rpartition("::")[2]
    known = {resource.get("id") for resource in resources if not resource.get("pendingReplacement")}
    left = [each for each in look_up(interrupted["type"], interrupted["inputs"]) if each.id not in known]
    if not left:
        echo(f"{name}: the interrupted creation left nothing")
        return
    echo(f"{name}: reading what the interrupted creation left")
    _begin_deletion(resources, interrupted["urn"])
    outputs = {**interrupted["inputs"], **left[0].outputs}
    resources.append({**interrupted, "id": left[0].id, "outputs": outputs, "initErrors": [UNREAD]})


def _begin_deletion(resources: list[dict[str, Any]], replaced: str) -> None:
    """Do what Pulumi does with a replaced resource once its replacement exists."""
    resources[:] = [each for each in resources if each["urn"] != replaced or not each.get("pendingReplacement")]
    for resource in resources:
        if resource["urn"] == replaced:
            resource["delete"] = True
