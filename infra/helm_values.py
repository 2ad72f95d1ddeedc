"""Read the Helm values in helm-values/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from infra.documents import read_text, read_yaml

FOLDER = Path(__file__).resolve().parent.parent / "helm-values"
SHARED = "airflow.yaml"
POD_TEMPLATE = "pod-template.yaml"


class _Shared(BaseModel):
    """The part of the shared values that Airflow reads."""

    config: dict[str, dict[str, Any]]


def stack_file(stack: str) -> str:
    """Return the name of the values file of a stack; a stack need not have one."""
    return f"airflow-{stack}.yaml"


def read(file: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the content of a values file; empty if the file is missing or empty."""
    path = folder / file
    return read_yaml(path, dict[str, Any], empty={}) if path.exists() else {}


def stack_values(*stacks: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return the shared values, overridden by the values of each stack in order."""
    values = read(SHARED, folder)
    for stack in stacks:
        values = merged(values, read(stack_file(stack), folder))
    return values


def pod_template(folder: Path = FOLDER) -> str:
    """Return the pod template of tasks, in the chart's template language."""
    return read_text(folder / POD_TEMPLATE)


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge values as Helm does: mappings are merged, everything else is replaced."""
    result = dict(values)
    for key, change in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(change, Mapping)
        result[key] = merged(old, change) if both else change  # type: ignore[arg-type]
    return result


def airflow_settings() -> dict[str, dict[str, str]]:
    """Return the chart's `config` section as `{section: {option: value}}`, with values as in airflow.cfg."""
    return {
        section: {option: str(value) for option, value in options.items()}
        for section, options in read_yaml(FOLDER / SHARED, _Shared).config.items()
    }
