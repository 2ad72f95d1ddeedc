"""The settings of a preview environment, as the stack file has them that `make preview-env` writes."""

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
# Lines of the base's file by which Pulumi finds the key of its secrets: that of the preview is the same.
KEY_LINES = re.compile(r"^(?:secretsprovider|encryptedkey): .*\n", re.MULTILINE)

# What differs from the base: helm-values/airflow-preview.yaml.
VALUES = "preview"
# What running tasks may ask for; less where the base itself has less.
MOST = TaskSettings(max_pods=8, max_cpus=4, max_memory_gib=16)


class PreviewSettings(Model):
    """An environment of a branch in the cluster of another stack."""

    base: str
    """The stack whose cluster, database server and buckets it uses."""
    branch: Branch
    """The branch whose DAGs run."""
    owner: Annotated[str, Field(min_length=1)]
    """Who made it."""
    expires_at: AwareDatetime
    """When `make preview-env-gc` may remove it."""

    @property
    def stack(self) -> str:
        """The environment's name, which is that of its stack and of its namespace."""
        return stack_name(self.base, self.branch)

    @property
    def prefix(self) -> str:
        """What the keys of its objects begin with."""
        return bucket_prefix(self.stack)


def file_of(stack: str, folder: Path = REPOSITORY) -> Path:
    """Return the stack's file."""
    return folder / f"Pulumi.{stack}.yaml"


def load_preview(stack: str, folder: Path = REPOSITORY) -> PreviewSettings:
    """Read the settings of a preview environment.

    Raises:
        SettingsError: There is no such file, or something in it is wrong.
    """
    file = file_of(stack, folder)
    if not file.is_file():
        raise SettingsError(f"{file.name} is not here: `make preview-envs` writes it, if the environment exists")
    try:
        return parse(stack, read_text(file))
    except DocumentError as error:
        raise SettingsError(str(error)) from None


def parse(stack: str, text: str) -> PreviewSettings:
    """Read the settings out of the text of a stack file.

    Raises:
        SettingsError: Something in it is wrong.
    """
    try:
        config = yaml.safe_load(text)["config"]
        settings = PreviewSettings.model_validate({key.removeprefix(f"{PROJECT}:"): config[key] for key in config})
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"{file_of(stack).name} is not what `make preview-env` wrote ({reason}): run that for its branch once "
            "more, or `make preview-env-down`"
        ) from error
    if settings.stack != stack:
        raise SettingsError(
            f"{file_of(stack).name} is about {settings.branch} in {settings.base}, whose environment is "
            f"{settings.stack}: run `make preview-env` for its branch once more, or `make preview-env-down`"
        )
    return settings


def text_of(settings: PreviewSettings, base_text: str) -> str:
    """Return the text of the stack file, with the base's key of Pulumi's secrets where that is in its file."""
    values = settings.model_dump() | {"expires_at": settings.expires_at.astimezone(UTC).isoformat()}
    config = {f"{PROJECT}:{name}": value for name, value in values.items()}
    return HEADER + yaml.safe_dump({"config": config}, sort_keys=False) + "".join(KEY_LINES.findall(base_text))


def tasks_of(base: StackSettings) -> TaskSettings:
    """Return what the running tasks of an environment in this base may ask for."""
    given, most = base.tasks.model_dump(), MOST.model_dump()
    return TaskSettings(**{name: min(given[name], most[name]) for name in most})


def is_expired(settings: PreviewSettings, now: datetime) -> bool:
    """Say whether an environment's time is over; `now` has a time zone, whichever."""
    return now >= settings.expires_at
