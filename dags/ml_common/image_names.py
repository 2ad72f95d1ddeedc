"""The full names of the repository's container images, from the variables of every task."""

import os

from ml_common.errors import PermanentError


def full_name(image: str) -> str:
    """Return the full name of the image of a folder in images/, with its tag.

    Raises:
        PermanentError: The variable <IMAGE>_IMAGE is not set.
    """
    variable = f"{image.upper().replace('-', '_')}_IMAGE"
    if not os.environ.get(variable):
        raise PermanentError(f"{variable} is not set: set it to the container image of images/{image} with its tag.")
    return os.environ[variable]
