"""Where a stack's cluster finds its images."""

from typing import Protocol

from ops.images.tools import Tool


class Destination(Protocol):
    """A registry, or the nodes of a cluster."""

    def repository(self, image: str) -> str:
        """Return an image's full name, without a tag."""

    def has(self, name: str) -> bool:
        """Say whether the image of this full name is there."""

    def deliver(self, tool: Tool, name: str) -> str | None:
        """Bring an image there from a tool's store; return its digest where there is a registry."""
