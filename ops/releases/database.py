"""The database revisions of a release, and whether another release can use a database at these revisions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.release import Release

# The image build runs the same script.
AIRFLOW_REVISIONS = REPOSITORY / "images" / "airflow" / "bin" / "revisions.py"
MLFLOW_REVISION = """
from alembic.script import ScriptDirectory
from mlflow.store import db_migrations
print(ScriptDirectory(db_migrations.__path__[0]).get_current_head())
"""
# MLflow has a separate database, where the revision table has the same name as Airflow's.
MLFLOW = "mlflow"

# The packages with migrations: the requirements file, the pinned name in it, and the package in this environment that
# contains the same migrations.
PINNED = (
    ("airflow", "apache-airflow-core", "apache-airflow-core"),
    ("airflow", "apache-airflow-providers-fab", "apache-airflow-providers-fab"),
    ("mlflow", "mlflow", "mlflow-skinny"),
)
# Length of abbreviated commits.
DIGITS = 12


def revisions() -> Mapping[str, str]:
    """Return the revisions to which this clone migrates: by table of Airflow's database, and as `mlflow`.

    Raises:
        OperationError: The environment has other versions than the images, or a revision cannot be read.
    """
    for file, name, package in PINNED:
        check_version(file, name, package)
    airflow = dict(line.split() for line in _output(str(AIRFLOW_REVISIONS)).splitlines())
    return {**airflow, MLFLOW: _output("-c", MLFLOW_REVISION).strip()}


def migrates(before: Release, after: Release) -> str | None:
    """Return which migrations a release brings compared to another; None if no schema changes."""
    changes = _changes(before.database_revisions, after.database_revisions)
    if not changes:
        return None
    old, new = before.airflow_version, after.airflow_version
    what = f"Airflow {old} -> {new}" if old != new else f"the release {after.commit[:DIGITS]}"
    return f"{what} migrates the database ({changes}), which a rollback does not undo"


def incompatible(current: Release, earlier: Release) -> str | None:
    """Return why an earlier release cannot use the databases of the current one; None if it can."""
    changes = _changes(current.database_revisions, earlier.database_revisions)
    if not changes:
        return None
    return (
        f"{earlier.commit[:DIGITS]} with Airflow {earlier.airflow_version} cannot use the migrated database "
        f"({changes}): restore a backup from before "
        f"{current.recorded_at:%Y-%m-%d %H:%M} UTC first"
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changed = [name for name in sorted({**before, **after}) if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in changed)


def check_version(file: str, name: str, package: str) -> None:
    """Check that this environment has the version of a package that `requirements/<file>.txt` pins.

    Raises:
        OperationError: The package is missing or has another version.
    """
    pin = re.search(rf"^{name}==(\S+)", (REPOSITORY / "requirements" / f"{file}.txt").read_text(), re.MULTILINE)
    wanted = pin[1] if pin else "none"
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "none"
    if installed != wanted:
        raise OperationError(
            f"{package} is at version {installed}, but requirements/{file}.txt pins {wanted}, so the database "
            "revisions may differ from those of the images: run `make setup`"
        )


def _output(*arguments: str) -> str:
    """Return the output of a Python program that runs without the user's settings of Airflow and MLflow."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "AIRFLOW_HOME": home}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=home, check=False, capture_output=True, text=True
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"the database revisions of this clone cannot be read ({last}): run `make setup`")
    return done.stdout
