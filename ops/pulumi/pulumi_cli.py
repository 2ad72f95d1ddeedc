"""The Pulumi CLI: from PATH, else installed into the project folder with Pulumi's installer."""

import subprocess
from pathlib import Path

from pulumi.automation import InvalidVersionError, PulumiCommand

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.console import Echo

FOLDER = REPOSITORY / ".pulumi-cli"


def pulumi_command(echo: Echo, folder: Path = FOLDER) -> PulumiCommand:
    """Return the CLI; if there is none, install the version of the Python SDK.

    Raises:
        OperationError: The CLI cannot be installed.
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
            f"the Pulumi CLI is not on PATH and cannot be installed from https://get.pulumi.com ({error}): allow "
            "access to that address, or install the CLI on PATH, see https://www.pulumi.com/docs/install/"
        ) from error
