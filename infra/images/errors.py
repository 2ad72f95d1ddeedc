"""The error that a person sees."""

import pulumi

from infra.errors import OperationError


class ImageError(OperationError, pulumi.RunError):
    """One sentence that says what is wrong and what to do; the command line prints it and ends with exit code 1."""
