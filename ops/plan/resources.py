"""A stack's resources, as its program registers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SECRET = "[secret]"  # noqa: S105
STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class Resource:
    """One resource as the program registered it.

    Attributes:
        urn: Its identity; unique in a stack and stable between runs.
        type: Its type token, such as `aws:s3/bucket:Bucket`.
        name: Its logical name.
        inputs: What the engine would be given, in the provider's own spelling; secrets are masked.
        parent: The URN of its parent; empty for the stack itself.
        dependencies: The URNs that must exist before it: those it names and those whose outputs it takes.
        provider: `<type>::<name>` of an explicit provider, else empty.
        custom: Whether a provider makes it; a component only groups others.
        protect: Whether the engine refuses to delete it.
        retain: Whether the cloud's object outlives the resource.
    """

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    parent: str = ""
    dependencies: tuple[str, ...] = ()
    provider: str = ""
    custom: bool = True
    protect: bool = False
    retain: bool = False


@dataclass(frozen=True)
class Recording:
    """Everything that a program registered.

    Attributes:
        project: The name of the Pulumi project.
        stack: The name of the stack.
        region: The AWS region of the stack; empty where it has none.
        resources: The resources, components included, ordered by URN.
        exports: The stack's outputs; secrets are masked.
    """

    project: str
    stack: str
    region: str
    resources: tuple[Resource, ...]
    exports: Mapping[str, Any] = field(default_factory=dict)

    def of_type(self, *types: str) -> list[Resource]:
        """Return the resources of these types."""
        return [resource for resource in self.resources if resource.type in types]

    def children(self, urn: str) -> list[Resource]:
        """Return the resources whose parent is `urn`."""
        return [resource for resource in self.resources if resource.parent == urn]

    def to_json(self) -> str:
        """Write the recording as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        resources = tuple(
            Resource(**{**item, "dependencies": tuple(item["dependencies"])}) for item in raw["resources"]
        )
        return cls(**{**raw, "resources": resources})
