"""A registry that speaks the OCI distribution protocol, in which every image has a repository."""

from ops.images import skopeo
from ops.images.tools import Tool


class OciRegistry:
    """The registry of a stack on an existing cluster.

    Every method but `repository` raises ImageError when the registry refuses, or does not answer.
    """

    def __init__(self, address: str) -> None:
        """Take the address that all its repositories begin with, such as registry.example.com/ml."""
        self._address = address

    def repository(self, image: str) -> str:
        """Return the full name of an image's repository."""
        return f"{self._address}/{image}"

    def has(self, name: str) -> bool:
        """Say whether the image of this full name is there."""
        repository, _, tag = name.rpartition(":")
        return skopeo.digest(repository, f":{tag}") is not None

    def deliver(self, tool: Tool, name: str) -> str:
        """Push an image, as the user is logged in, and return its digest."""
        return tool.push(name)

    def digest(self, image: str, tag: str) -> str | None:
        """Return the digest of an image's tag, None where it is not there."""
        return skopeo.digest(self.repository(image), f":{tag}")

    def has_digest(self, image: str, digest: str) -> bool:
        """Say whether an image is there with this digest."""
        return skopeo.digest(self.repository(image), f"@{digest}") == digest
