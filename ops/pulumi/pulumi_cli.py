"""The Pulumi CLI: the one on PATH, else one that Pulumi's own installer puts into the project's folder."""

import subprocess
from pathlib import Path

from pulumi.automation import InvalidVersionError, PulumiCommand

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.console import Echo

FOLDER = REPOSITORY / ".pulumi-cli"


def pulumi_command(echo: Echo, folder: Path = FOLDER) -> PulumiCommand:
    """Return the CLI; install it, in the version of the Python SDK, where there is none.

    Raises:
        OperationError: It cannot be installed.
    """
    for root in (None, str(folder)):
        try:
            return PulumiCommand(root=root)
        except (OSError, subprocess.CalledProcessError, InvalidVersionError):
            continue
    echo(f"installing the Pulumi CLI into {folder.name}, from https://get.pulumi.com")
    try:
        return PulumiCommand.install(root=str(folder))
    except (OSError, subprocess.CalledProcessError, InvalidVersionError) as error:
        raise OperationError(
            f"the Pulumi CLI is not on PATH and https://get.pulumi.com cannot be reached or does not install it "
            f"({error}): open the network to it, or install the CLI as https://www.pulumi.com/docs/install/ "
            "says and put it on PATH"
        ) from error
