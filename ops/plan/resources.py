"""The resources that a stack's program registers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SECRET = "[secret]"  # noqa: S105
STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass(frozen=True)
class Resource:
    """A resource that the program registered.

    Attributes:
        urn: Its URN, which is unique in a stack and stable between runs.
        type: Its type token, such as `aws:s3/bucket:Bucket`.
        name: Its logical name.
        inputs: Its inputs, with the provider's property names; secrets are masked.
        parent: The URN of its parent; empty for the stack itself.
        dependencies: The URNs of its explicit dependencies and of the resources whose outputs it uses.
        provider: `<type>::<name>` of an explicit provider, else empty.
        custom: Whether a provider manages it; a component only groups other resources.
        protect: Whether the engine refuses to delete it.
        retain: Whether the cloud resource is kept when Pulumi deletes it.
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
    """The resources and outputs that a program registered.

    Attributes:
        project: The name of the Pulumi project.
        stack: The name of the stack.
        region: The AWS region of the stack; empty if it has none.
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
        """Return the recording as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recording:
        """Parse the output of `to_json`."""
        raw = json.loads(text)
        resources = tuple(
            Resource(**{**item, "dependencies": tuple(item["dependencies"])}) for item in raw["resources"]
        )
        return cls(**{**raw, "resources": resources})
