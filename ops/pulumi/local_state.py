"""Pulumi's state and key in a folder of this clone, for stacks on existing clusters."""

import os
import secrets
from pathlib import Path

from infra.documents import REPOSITORY

# Each clone has its own key, so its salt must not go into a file under version control.
FOLDER = REPOSITORY / ".pulumi-state"


def environment(folder: Path) -> dict[str, str | None]:
    """Return Pulumi's environment; create the key if there is none."""
    folder.mkdir(mode=0o700, exist_ok=True)
    passphrase = folder / "passphrase"
    if not passphrase.exists():
        temporary = passphrase.with_name(f"passphrase.{os.getpid()}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        temporary.replace(passphrase)
    return {
        "PULUMI_BACKEND_URL": f"file://{folder}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        "PULUMI_CONFIG_PASSPHRASE": None,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
