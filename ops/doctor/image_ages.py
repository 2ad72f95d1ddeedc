"""The age of a stack's images, and what the registry's scan found in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from ops.doctor.outcome import Outcome, passed, warning
from ops.images.ecr import Ecr

MAX_DAYS = 90
SEVERE = ("CRITICAL", "HIGH")
REMEDY = "update its base image and its packages, see docs/runbooks/upgrade-airflow.md"


def image(registry: Ecr, name: str) -> Outcome:
    """Check the newest image in a repository."""
    pushed, findings = registry.newest(name)
    return judge((datetime.now(UTC) - pushed).days, findings)


def judge(days: int, findings: Mapping[str, int] | None) -> Outcome:
    """Judge the age of an image, and the findings of its scan by severity; None if it was not scanned."""
    severe = {name: (findings or {}).get(name, 0) for name in SEVERE}
    counts = " and ".join(f"{count} {name.lower()}" for name, count in severe.items())
    text = f"pushed {days} days ago, {'not scanned' if findings is None else f'{counts} findings'}"
    if days > MAX_DAYS or any(severe.values()):
        return warning(f"{text}: {REMEDY}")
    return passed(text)
