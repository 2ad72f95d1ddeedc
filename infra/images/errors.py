"""The error for images that cannot be built or deployed."""

import pulumi

from infra.errors import OperationError


class ImageError(OperationError, pulumi.RunError):
    """An image problem: one sentence that says what is wrong and what to do."""
