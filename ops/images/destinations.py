"""The interface for delivering images to a stack's cluster."""

from typing import Protocol

from ops.images.tools import Tool


class Destination(Protocol):
    """A registry, or the nodes of a cluster."""

    def repository(self, image: str) -> str:
        """Return the full name of an image, without a tag."""

    def has(self, name: str) -> bool:
        """Return whether the destination has the image with this full name."""

    def deliver(self, tool: Tool, name: str) -> str | None:
        """Deliver an image from a tool's store; return its digest if the destination is a registry."""
