"""What a DAG declares in its dag.yaml, as far as its own code needs it; infra/dag_declarations.py validates it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DAGS = Path(__file__).parents[1]


def of(folder: Path) -> Mapping[str, Any]:
    """Return the content of the dag.yaml in a DAG's folder; empty without the file."""
    file = folder / "dag.yaml"
    content: Mapping[str, Any] | None = yaml.safe_load(file.read_text()) if file.exists() else None
    return content or {}


def connections(dag_id: str) -> list[str]:
    """Return the IDs of the Airflow connections through which a DAG notifies people."""
    declared = of(DAGS / dag_id).get("notify", [])
    return [one if isinstance(one, str) else one["connection"] for one in declared]
