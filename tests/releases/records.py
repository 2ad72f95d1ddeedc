"""Release records for tests."""

from datetime import UTC, datetime
from typing import Any

from infra.release import Chart, Release, ReleasedImage


def a_release(**changes: Any) -> Release:
    """Return a record of the stack `dev`, with changes."""
    image = ReleasedImage(repository="registry.dev/airflow", tag="0a1b", digest=f"sha256:{'0' * 64}")
    fields: dict[str, Any] = {
        "stack": "dev",
        "commit": "1" * 40,
        "dags": "2" * 40,
        "chart": Chart(version="1.22.0", sha256="3" * 64),
        "airflow_version": "3.3.2",
        "database_revisions": {"alembic_version": "4f", "alembic_version_fab": "02", "mlflow": "dc"},
        "images": {"airflow": image},
        "recorded_at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    }
    return Release(**fields | changes)
