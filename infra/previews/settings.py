"""The settings of a preview environment, from the stack file that `make preview-env` writes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AwareDatetime, Field, ValidationError

from infra.documents import REPOSITORY, DocumentError, read_text
from infra.preview_names import bucket_prefix, stack_name
from infra.settings import PROJECT, SettingsError, StackSettings, TaskSettings
from infra.settings.models import Branch, Model

HEADER = "# A preview environment. `make preview-env` wrote this file, and `make preview-envs` writes it again.\n"
# The lines of the base's file that configure the encryption of Pulumi secrets: a preview uses the same key.
KEY_LINES = re.compile(r"^(?:secretsprovider|encryptedkey): .*\n", re.MULTILINE)

# The differences from the base's values: helm-values/airflow-preview.yaml.
VALUES = "preview"
# The limits for running tasks; lower where the base's own are lower.
MOST = TaskSettings(max_pods=8, max_cpus=4, max_memory_gib=16)


class PreviewSettings(Model):
    """A branch's environment in the cluster of another stack."""

    base: str
    """The stack whose cluster, database server and buckets it uses."""
    branch: Branch
    """The branch whose DAGs run."""
    owner: Annotated[str, Field(min_length=1)]
    """The person who created it."""
    expires_at: AwareDatetime
    """The time after which `make preview-env-gc` may remove it."""

    @property
    def stack(self) -> str:
        """The name of the environment, its stack and its namespace."""
        return stack_name(self.base, self.branch)

    @property
    def prefix(self) -> str:
        """The prefix of the keys of its objects."""
        return bucket_prefix(self.stack)


def file_of(stack: str, folder: Path = REPOSITORY) -> Path:
    """Return the path of the stack file."""
    return folder / f"Pulumi.{stack}.yaml"


def load_preview(stack: str, folder: Path = REPOSITORY) -> PreviewSettings:
    """Read the settings of a preview environment.

    Raises:
        SettingsError: The file does not exist or is invalid.
    """
    file = file_of(stack, folder)
    if not file.is_file():
        raise SettingsError(
            f"{file.name} does not exist: run `make preview-envs` to write it if the environment exists"
        )
    try:
        return parse(stack, read_text(file))
    except DocumentError as error:
        raise SettingsError(str(error)) from None


def parse(stack: str, text: str) -> PreviewSettings:
    """Parse the text of a stack file.

    Raises:
        SettingsError: The text is invalid.
    """
    try:
        config = yaml.safe_load(text)["config"]
        settings = PreviewSettings.model_validate({key.removeprefix(f"{PROJECT}:"): config[key] for key in config})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"{file_of(stack).name} is not a file that `make preview-env` wrote ({reason}): run `make preview-env` for "
            "its branch again, or `make preview-env-down`"
        ) from error
    if settings.stack != stack:
        raise SettingsError(
            f"{file_of(stack).name} names {settings.branch} in {settings.base}, but that environment is "
            f"{settings.stack}: run `make preview-env` for its branch again, or `make preview-env-down`"
        )
    return settings


def text_of(settings: PreviewSettings, base_text: str) -> str:
    """Return the text of the stack file, with the base's secrets provider and key if its file has them."""
    values = settings.model_dump() | {"expires_at": settings.expires_at.astimezone(UTC).isoformat()}
    config = {f"{PROJECT}:{name}": value for name, value in values.items()}
    return HEADER + yaml.safe_dump({"config": config}, sort_keys=False) + "".join(KEY_LINES.findall(base_text))


def tasks_of(base: StackSettings) -> TaskSettings:
    """Return the task limits of an environment in this base."""
    given, most = base.tasks.model_dump(), MOST.model_dump()
    return TaskSettings(**{name: min(given[name], most[name]) for name in most})


def is_expired(settings: PreviewSettings, now: datetime) -> bool:
    """Return whether an environment has expired; `now` must have a time zone."""
    return now >= settings.expires_at
