"""`make dag`: the new DAG is complete, and its test passes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.dags.scaffold import write_dag
from tests import contributing

# The tests of the new DAGs, and those of every DAG and image.
FILES = ("dags/test_churn", "dags/test_fraud", "dags/test_integrity", "images/test_dockerfiles", "infra/test_images")
SELECTED = (
    "test_churn or test_fraud or every or unset_image or heavy and (churn or fraud) "
    "or last_user or base_is or pinned or image_is_built"
)


def test_a_new_dag_and_the_example_in_contributing_pass_their_tests_and_those_of_every_dag_and_image(
    tmp_path: Path,
) -> None:
    contributing.copy(tmp_path)
    contributing.follow(tmp_path)
    files = [str(file.relative_to(tmp_path)) for file in write_dag("fraud", tmp_path)]
    assert files == [
        "dags/fraud/__init__.py",
        "dags/fraud/fraud_dag.py",
        "dags/fraud/steps.py",
        "dags/fraud/dag.yaml",
        "tests/dags/test_fraud.py",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *(f"tests/{file}.py" for file in FILES), "-k", SELECTED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{tmp_path / 'dags'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("name", ["Churn", "1churn", "churn-model", "../churn", "churn__x", "", "c" * 56, "processor"])
def test_an_invalid_name_is_one_sentence_and_writes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperationError, match=r"is not a valid DAG ID: use at most 55 lower-case letters, digits"):
        write_dag(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_dag_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tests" / "dags").mkdir(parents=True)
    (tmp_path / "tests" / "dags" / "test_churn.py").write_text("mine")
    with pytest.raises(OperationError, match=r"^tests/dags/test_churn.py already exists: choose another NAME, or edit"):
        write_dag("churn", tmp_path)
    assert not (tmp_path / "dags").exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("dags", "tests/dags"):
        (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    written: list[Path] = []

    def write(path: Path, text: str) -> int:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return path.write_bytes(text.encode())

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(
        OperationError, match=r"^dags/churn cannot be written \(No space left on device\): check the disk"
    ):
        write_dag("churn", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    assert len(write_dag("churn", tmp_path)) == 5
