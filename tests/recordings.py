"""What the stacks' programs register, recorded once for all tests of a process."""

import shutil
from functools import cache
from pathlib import Path

from infra.documents import REPOSITORY
from ops.plan.recording import record
from ops.plan.resources import Recording


def recorded(stack: str, root: Path = REPOSITORY, *, reveal: bool = False) -> Recording:
    """Return the recording of a stack, which no test may change."""
    return _recorded(stack, root, reveal)


def recorded_with(setting: str, stack: str, root: Path) -> Recording:
    """Record a stack with one more setting, such as `airflow:wandb: offline`, from a copy in an empty folder."""
    for name in ("dags", "images", "requirements", "helm-values", "infra"):
        (root / name).symlink_to(REPOSITORY / name)
    for file in REPOSITORY.glob("Pulumi*.yaml"):
        shutil.copy(file, root)
    with (root / f"Pulumi.{stack}.yaml").open("a") as settings:
        settings.write(f"  {setting}\n")
    return record(stack, root)


@cache
def _recorded(stack: str, root: Path, reveal: bool) -> Recording:
    return record(stack, root, reveal=reveal)
