"""DAGs as Airflow parses them, and the difference between two commits."""

from pathlib import Path

import pytest

from ops.releases.dags import Dag, DagDifference, Dags, dag_difference, dags_of

from .team import DAG, Team

CYCLE = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("circle", schedule=None):
    a, b = EmptyOperator(task_id="a"), EmptyOperator(task_id="b")
    a >> b >> a
"""
# The dag-processor can parse it, but the scheduler cannot deserialize it.
UNKNOWN_TIMETABLE = """
from airflow.sdk import DAG
from airflow.timetables.simple import NullTimetable
class Mine(NullTimetable):
    pass
with DAG("mine", schedule=Mine()):
    pass
"""
SECRETIVE = """
import os
from airflow.sdk import DAG
assert "TOKEN" not in os.environ
with DAG("secretive", schedule=None):
    pass
"""


@pytest.fixture(scope="module")
def seen(first_commit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dags, dict[str, str]]:
    """The DAGs in a folder with many kinds of files, and the Git objects of its entries."""
    from .conftest import copy_of
    from .team import environment

    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**environment(), "TOKEN": "secret"}.items():
            patched.setenv(name, value)
        team = copy_of(first_commit, tmp_path_factory.mktemp("dags") / "team")
        commit = team.commit(
            {
                "dags/.airflowignore": "*\n!*/\n!*_dag.py\n",
                "dags/alone_dag.py": DAG.format(name="alone", schedule=None),
                "dags/shared/code.py": "import torch_is_not_there\n",
                "dags/twice/a_dag.py": DAG.format(name="hello", schedule="@daily"),
                "dags/circle/circle_dag.py": CYCLE,
                "dags/mine/mine_dag.py": UNKNOWN_TIMETABLE,
                "dags/typo/typo_dag.py": "from airflow.sdk import dag\ndef\n",
                "dags/secretive/secretive_dag.py": SECRETIVE,
            }
        )
        tree = tmp_path_factory.mktemp("tree")
        team.clone.extract(commit, tree)
        return dags_of(team.clone, commit, "dags", tree), team.clone.entries(commit, "dags")


def test_dags_are_known_by_their_schedule_and_the_content_of_their_folder(
    seen: tuple[Dags, dict[str, str]],
) -> None:
    found, entries = seen
    assert found.dags["alone"] == Dag("none", entries["alone_dag.py"])
    assert found.dags["hello"].schedule == "@daily"
    assert found.dags["secretive"] == Dag("none", entries["secretive"])


def test_folders_without_dags_are_shared(seen: tuple[Dags, dict[str, str]]) -> None:
    found, entries = seen
    assert found.shared["shared"] == entries["shared"]
    assert "alone_dag.py" not in found.shared


def test_files_that_cannot_be_read_circles_names_that_are_taken_and_unknown_timetables_are_errors(
    seen: tuple[Dags, dict[str, str]],
) -> None:
    errors = seen[0].errors
    assert "SyntaxError" in errors["typo/typo_dag.py"]
    assert "Cycle" in errors["circle/circle_dag.py"]
    assert any("Duplicate" in errors.get(file, "") for file in ("twice/a_dag.py", "hello/hello_dag.py"))
    assert "not registered" in errors["mine/mine_dag.py"]
    assert len(errors) == 4


def test_a_commit_without_the_folder_has_no_dags(team: Team, tmp_path: Path) -> None:
    assert dags_of(team.clone, team.clone.head(), "nothing", tmp_path) == Dags()


def test_the_difference_tells_added_removed_changed_shared_and_schedules() -> None:
    before = Dags(
        {
            "old": Dag("none", "1"),
            "same": Dag("@daily", "2"),
            "edited": Dag("@daily", "3"),
            "timed": Dag("@daily", "4"),
        },
        {"common": "5", "kept": "6"},
    )
    after = Dags(
        {
            "new": Dag("none", "1"),
            "same": Dag("@daily", "2"),
            "edited": Dag("@daily", "7"),
            "timed": Dag("@hourly", "8"),
        },
        {"common": "9", "kept": "6", "more": "10"},
    )
    assert dag_difference(before, after) == DagDifference(
        added=("new",),
        removed=("old",),
        changed=("edited", "timed"),
        shared=("common", "more"),
        schedules={"timed": ("@daily", "@hourly")},
    )
    assert not dag_difference(before, before)


def test_a_schedule_may_change_without_the_files_of_its_dag() -> None:
    """For example, if the schedule comes from shared code."""
    found = dag_difference(Dags({"dag": Dag("@daily", "1")}), Dags({"dag": Dag("@hourly", "1")}))
    assert found
    assert (found.changed, found.schedules) == ((), {"dag": ("@daily", "@hourly")})
