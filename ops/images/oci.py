"""A registry with the OCI distribution API and one repository per image."""

from ops.images import skopeo
from ops.images.tools import Tool


class OciRegistry:
    """The registry of a stack on an existing cluster.

    Every method except `repository` raises ImageError if the registry rejects a request or does not answer.
    """

    def __init__(self, address: str) -> None:
        """Create a client for the common prefix of its repositories, such as registry.example.com/ml."""
        self._address = address

    def repository(self, image: str) -> str:
        """Return the full name of an image, without a tag."""
        return f"{self._address}/{image}"

    def has(self, name: str) -> bool:
        """Return whether the registry has the image with this full name."""
        repository, _, tag = name.rpartition(":")
        return skopeo.digest(repository, f":{tag}") is not None

    def deliver(self, tool: Tool, name: str) -> str:
        """Push an image with the user's login, and return its digest."""
        return tool.push(name)

    def digest(self, image: str, tag: str) -> str | None:
        """Return the digest of an image's tag, or None if the tag does not exist."""
        return skopeo.digest(self.repository(image), f":{tag}")

    def has_digest(self, image: str, digest: str) -> bool:
        """Return whether the registry has an image with this digest."""
        return skopeo.digest(self.repository(image), f"@{digest}") == digest
