"""Read the Helm values that the repository keeps in helm-values/."""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "helm-values"


def airflow_settings() -> dict[str, dict[str, str]]:
    """Return the chart's `config` section as `{section: {option: value}}`, values as airflow.cfg holds them."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / "airflow.yaml").read_text())
    return {
        section: {option: str(value) for option, value in options.items()}
        for section, options in values["config"].items()
    }
