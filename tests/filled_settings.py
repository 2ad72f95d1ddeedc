"""The settings of a stack on AWS as a team fills them in, because commands refuse the repository's placeholders."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import cast

from infra.documents import REPOSITORY
from infra.settings import Settings, StackSettings, load


def filled(settings: Settings) -> Settings:
    """Return settings without placeholders."""
    cluster = settings.cluster.model_copy(update={"public_access_cidrs": (IPv4Network("8.8.8.0/24"),)})
    dags = settings.dags.model_copy(update={"repository": "https://github.com/team/airflow.git"})
    release = settings.release and settings.release.model_copy(update={"signed_by": None})
    alarms = settings.alarms and settings.alarms.model_copy(update={"emails": ("ml-platform@team.test",)})
    return settings.model_copy(update={"cluster": cluster, "dags": dags, "release": release, "alarms": alarms})


def load_filled(stack: str, folder: Path = REPOSITORY) -> StackSettings:
    """Read the settings of a stack, without placeholders."""
    settings = load(stack, folder)
    return filled(settings) if isinstance(settings, Settings) else settings


def aws_settings(stack: str) -> Settings:
    """Read the settings of a stack on AWS, without placeholders."""
    return cast(Settings, load_filled(stack))
