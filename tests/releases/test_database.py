import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.releases import database
from ops.releases.database import check_version, incompatible, migrates, revisions

from .records import a_release

BEFORE = a_release()
PATCHED = a_release(airflow_version="3.3.3", commit="5" * 40)
NEXT = a_release(
    airflow_version="3.4.0",
    commit="6" * 40,
    database_revisions={**BEFORE.database_revisions, "alembic_version": "9a", "alembic_version_fab": "03"},
)
NEXT_MLFLOW = a_release(commit="7" * 40, database_revisions={**BEFORE.database_revisions, "mlflow": "ee"})


def test_the_revisions_are_those_that_the_image_prints_and_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    # The user's settings, such as another database, have no effect.
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "nonsense")
    found = revisions()
    assert list(found) == ["alembic_version", "alembic_version_fab", "mlflow"]
    assert all(re.fullmatch("[0-9a-f]{12}", revision) for revision in found.values())


def test_the_revision_of_mlflow_is_the_one_that_no_other_migration_follows() -> None:
    mlflow = find_spec("mlflow")
    assert mlflow
    assert mlflow.submodule_search_locations
    folder = Path(mlflow.submodule_search_locations[0], "store", "db_migrations", "versions")
    text = "\n".join(file.read_text() for file in folder.glob("*.py"))
    all_, followed = (
        set(re.findall(rf"^{name} = ['\"](\w+)['\"]", text, re.MULTILINE)) for name in ("revision", "down_revision")
    )
    assert {database._output("-c", database.MLFLOW_REVISION).strip()} == all_ - followed


def test_other_versions_than_those_of_the_images_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "airflow.txt").write_text("apache-airflow-core==9.9.9\n")
    monkeypatch.setattr(database, "REPOSITORY", tmp_path)
    with pytest.raises(
        OperationError, match=r"^apache-airflow-core is at version 3\.\S+, but requirements/airflow.txt pins 9.9.9"
    ):
        check_version("airflow", "apache-airflow-core", "apache-airflow-core")
    with pytest.raises(
        OperationError, match=r"^no-such-package is at version none, but .* pins 9.9.9.*: run `make setup`$"
    ):
        check_version("airflow", "apache-airflow-core", "no-such-package")


def test_every_package_that_brings_migrations_is_pinned() -> None:
    for file, name, _ in database.PINNED:
        assert f"\n{name}==" in (REPOSITORY / "requirements" / f"{file}.txt").read_text()


def test_a_failed_program_is_reported_by_its_last_line() -> None:
    with pytest.raises(OperationError, match=r"cannot be read \(ValueError: no\): run `make setup`"):
        database._output("-c", "raise ValueError('no')")


def test_the_programs_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    database._output("-c", "open('airflow.cfg', 'w').close()")
    assert list(tmp_path.iterdir()) == []


def test_a_release_with_the_same_revisions_migrates_nothing() -> None:
    assert migrates(BEFORE, PATCHED) is None
    assert incompatible(PATCHED, BEFORE) is None


def test_a_migration_of_airflow_is_shown_with_versions_and_revisions() -> None:
    assert migrates(BEFORE, NEXT) == (
        "Airflow 3.3.2 -> 3.4.0 migrates the database (alembic_version 4f -> 9a, alembic_version_fab 02 -> 03), "
        "which a rollback does not undo"
    )


def test_a_migration_of_only_mlflow_is_shown_with_the_release() -> None:
    assert migrates(BEFORE, NEXT_MLFLOW) == (
        "the release 777777777777 migrates the database (mlflow dc -> ee), which a rollback does not undo"
    )


def test_a_table_of_migrations_that_comes_or_goes_is_a_migration() -> None:
    without = a_release(database_revisions={"alembic_version": "4f", "mlflow": "dc"})
    assert "(alembic_version_fab none -> 02)" in str(migrates(without, BEFORE))
    assert "(alembic_version_fab 02 -> none)" in str(incompatible(BEFORE, without))


def test_an_earlier_release_that_cannot_use_the_database_requires_a_backup() -> None:
    assert incompatible(NEXT, BEFORE) == (
        "111111111111 with Airflow 3.3.2 cannot use the migrated database "
        "(alembic_version 9a -> 4f, alembic_version_fab 03 -> 02): restore a backup from before 2026-01-02 03:04 UTC "
        "first"
    )
