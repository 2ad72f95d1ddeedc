"""Read and validate a stack file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, get_args, get_origin

import pulumi
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infra.airflow_names import CPU_POOL
from infra.documents import REPOSITORY, DocumentError, read_yaml
from infra.errors import OperationError
from infra.preview_names import is_preview
from infra.settings.models import ExistingClusterSettings, Settings
from infra.settings.rules import mistakes, mistakes_on_existing_cluster
from infra.settings.stack_summaries import Source, StackSummaries, StackSummary

PROJECT = "airflow"
REGION_KEY = "aws:region"

StackSettings = Settings | ExistingClusterSettings

# The stack name becomes part of the names of buckets, databases and repositories.
STACK_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class SettingsError(OperationError, pulumi.RunError):
    """An invalid stack file: one sentence for each mistake, with the file and the key."""


def load(stack: str, folder: Path = REPOSITORY) -> StackSettings:
    """Read the settings of a stack.

    The file is read directly, not through `pulumi.Config`: `pulumi.Config` returns only the keys it is asked for and
    cannot detect a misspelt one, and commands that run without Pulumi read the same settings.

    Raises:
        SettingsError: The file does not exist or is invalid.
    """
    if not STACK_NAME.fullmatch(stack):
        raise SettingsError(f"{stack} is not a valid stack name: use lower-case letters, digits and single hyphens")
    if is_preview(stack):
        raise SettingsError(
            f"{stack} is a preview environment and has no settings file: use `make preview-env` and "
            "`make preview-env-down`"
        )
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(name for name, _ in _stack_files(folder)))
        raise SettingsError(
            f"{path.name} does not exist: choose one of the stacks {known}, or create it with `make stack`"
        )
    return parse(stack, path.name, _config(path), stack_summaries(folder))


def load_aws(stack: str, folder: Path = REPOSITORY) -> Settings:
    """Read the settings of a stack on AWS.

    Raises:
        SettingsError: The stack runs on an existing cluster, or its file does not exist or is invalid.
    """
    settings = load(stack, folder)
    if isinstance(settings, ExistingClusterSettings):
        raise SettingsError(f"{stack} runs on an existing cluster and has no AWS account: choose a stack on AWS")
    return settings


def stack_summaries(folder: Path = REPOSITORY) -> StackSummaries:
    """Return a summary of every stack by its name; an invalid file yields an empty summary."""
    return {name: _summary(path) for name, path in _stack_files(folder)}


def parse(stack: str, file: str, config: Mapping[str, Any], stacks: StackSummaries) -> StackSettings:
    """Validate the `config` section of a stack file.

    Args:
        stack: The name of the stack.
        file: The file name, for error messages.
        config: The section.
        stacks: The summaries of the other stacks; one of this stack is ignored.

    Raises:
        SettingsError: The section is invalid.
    """
    values = {_field(key): value for key, value in config.items()}
    model = model_of(values)
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_lines(file, (_sentence(model, details) for details in error.errors()))) from None
    others = {name: other for name, other in stacks.items() if name != stack}
    if isinstance(settings, Settings):
        found = list(mistakes(stack, settings, others))
    else:
        found = list(mistakes_on_existing_cluster(stack, settings, others))
    if found:
        raise SettingsError(_lines(file, (f"{_key(key.split('.'))}: {sentence}" for key, sentence in found)))
    return settings


def model_of(fields: Iterable[str]) -> type[Settings] | type[ExistingClusterSettings]:
    """Return the model for these fields: the one for existing clusters if `contexts` is set, else the best match."""
    given = set(fields)
    of_aws, of_existing = (len(given & model.model_fields.keys()) for model in (Settings, ExistingClusterSettings))
    return ExistingClusterSettings if "contexts" in given or of_existing > of_aws else Settings


def _stack_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob("Pulumi.*.yaml")):
        name = path.name.split(".")[1]
        if not is_preview(name):
            yield name, path


def _config(path: Path) -> dict[str, Any]:
    try:
        config = read_yaml(path, dict[str, Any], empty={}).get("config")
    except DocumentError as error:
        raise SettingsError(str(error)) from None
    if not isinstance(config, dict):
        raise SettingsError(f"{path.name}: config is missing: put the settings under it, as in Pulumi.dev.yaml")
    return {str(key): value for key, value in config.items()}


def _summary(path: Path) -> StackSummary:
    try:
        config = _config(path)
    except SettingsError:
        return StackSummary()
    network, source = None, None
    with suppress(ValueError):
        network = IPv4Network(str(_value(config, "network", "cidr")))
    repository, branch = _value(config, "dags", "repository"), _value(config, "dags", "branch")
    if repository and branch:
        with suppress(ValueError):
            source = Source.of(str(repository), str(branch))
    after = _value(config, "release", "after")
    return StackSummary(
        network,
        source,
        has_releases=_value(config, "release") is not None,
        after=str(after) if after else None,
        architecture=_value(config, "node_pools", CPU_POOL, "architecture"),
        has_gpus=_has_gpus(config.get(f"{PROJECT}:node_pools")),
    )


def _has_gpus(pools: Any) -> bool:
    return isinstance(pools, dict) and any(isinstance(pool, dict) and "max_gpus" in pool for pool in pools.values())


def _value(config: Mapping[str, Any], section: str, *keys: str) -> Any:
    """Return a setting as written in the file; None if it is not set."""
    found = config.get(f"{PROJECT}:{section}")
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _field(key: str) -> str:
    return "region" if key == REGION_KEY else key.removeprefix(f"{PROJECT}:")


def _key(location: list[str]) -> str:
    """Format the location of a field as a key of the file."""
    first, *rest = location
    return ".".join([first if ":" in first else REGION_KEY if first == "region" else f"{PROJECT}:{first}", *rest])


def _lines(file: str, sentences: Iterator[str]) -> str:
    return "\n".join(f"{file}: {sentence}" for sentence in sentences)


def _sentence(model: type[BaseModel], details: ErrorDetails) -> str:
    location = [str(part) for part in details["loc"] if part != "[key]"]
    key, value = _key(location), details["input"]
    if details["type"] == "extra_forbidden":
        return f"{key} is an unknown setting: {_nearest(model, location)}"
    if details["type"] == "missing":
        description = _model_at(model, location[:-1]).model_fields[location[-1]].description
        return f"{key} is missing: {description}"
    if details["type"] == "string_pattern_mismatch":
        return f"{key}: {value!r} is not allowed: it must match {details['ctx']['pattern']}"
    return f"{key}: {value!r} is not allowed: {details['msg'][0].lower()}{details['msg'][1:]}"


def _nearest(model: type[BaseModel], location: list[str]) -> str:
    fields = sorted(_model_at(model, location[:-1]).model_fields)
    near = get_close_matches(location[-1], fields, n=1)
    parent = location[:-1]
    return (
        f"did you mean {_key([*parent, near[0]])}?"
        if near
        else f"choose from {', '.join(_key([*parent, f]) for f in fields)}"
    )


def _model_at(model: type[BaseModel], location: list[str]) -> type[BaseModel]:
    """Return the model of the settings at a location such as node_pools, cpu."""
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[part].annotation
        model = _model_in(annotation)
        if get_origin(annotation) in (dict, tuple):
            next(parts, None)  # the key or the index
    return model


def _model_in(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = [argument for argument in get_args(annotation) if argument not in (type(None), ...)]
    return _model_in(arguments[-1])  # of a map, the values
