"""The databases of a release: to which revision it migrates each, and whether another release can work with that."""

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

# What the image runs when it is built.
AIRFLOW_REVISIONS = REPOSITORY / "images" / "airflow" / "bin" / "revisions.py"
MLFLOW_REVISION = "from mlflow.store.db.utils import _get_latest_schema_revision; print(_get_latest_schema_revision())"
# MLflow's database is another one, whose table of revisions has the same name as Airflow's own.
MLFLOW = "mlflow"

# The packages that bring migrations, by the name under which requirements/<file>.txt pins each, and where its
# environment is another one, the package here that carries the same migrations.
PINNED = (
    ("airflow", "apache-airflow-core", "apache-airflow-core"),
    ("airflow", "apache-airflow-providers-fab", "apache-airflow-providers-fab"),
    ("mlflow", "mlflow", "mlflow-skinny"),
)
# Enough to tell revisions apart.
DIGITS = 12


def revisions() -> Mapping[str, str]:
    """Return to which revision this clone's Airflow and MLflow migrate: by table of Airflow's database, and `mlflow`.

    Raises:
        OperationError: The environment has other versions than the images will have, or they cannot be asked.
    """
    for file, name, package in PINNED:
        check_version(file, name, package)
    airflow = dict(line.split() for line in _output(str(AIRFLOW_REVISIONS)).splitlines())
    return {**airflow, MLFLOW: _output("-c", MLFLOW_REVISION).strip()}


def migrates(before: Release, after: Release) -> str | None:
    """Say what a release migrates that another has not migrated; None where every schema stays."""
    changes = _changes(before.database_revisions, after.database_revisions)
    if not changes:
        return None
    old, new = before.airflow_version, after.airflow_version
    what = f"Airflow {old} -> {new}" if old != new else f"the release {after.commit[:DIGITS]}"
    return f"{what} migrates the database ({changes}), which does not go back by itself"


def incompatible(current: Release, earlier: Release) -> str | None:
    """Say why an earlier release cannot work with the databases of the current one; None where it can."""
    changes = _changes(current.database_revisions, earlier.database_revisions)
    if not changes:
        return None
    return (
        f"the database is migrated for another release than {earlier.commit[:DIGITS]} with Airflow "
        f"{earlier.airflow_version}, which cannot read it ({changes}): restore a backup from before "
        f"{current.recorded_at:%Y-%m-%d %H:%M} UTC first"
    )


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    changed = [name for name in sorted({**before, **after}) if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in changed)


def check_version(file: str, name: str, package: str) -> None:
    """See that this environment has the version of a package that `requirements/<file>.txt` pins.

    Raises:
        OperationError: It has another one, or none.
    """
    pin = re.search(rf"^{name}==(\S+)", (REPOSITORY / "requirements" / f"{file}.txt").read_text(), re.MULTILINE)
    wanted = pin[1] if pin else "none"
    try:
        installed = version(package)
    except PackageNotFoundError:
        installed = "none"
    if installed != wanted:
        raise OperationError(
            f"{package} here is {installed} and requirements/{file}.txt pins {wanted}, so the images' revisions of the "
            "database would be others: run `make setup`"
        )


def _output(*arguments: str) -> str:
    """Return what a Python program prints, without any of the user's own settings of Airflow and MLflow."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "AIRFLOW_HOME": home}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=home, check=False, capture_output=True, text=True
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"the revisions of this clone's databases cannot be read ({last}): run `make setup`")
    return done.stdout
