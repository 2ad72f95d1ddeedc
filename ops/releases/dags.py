"""The DAGs of a commit as Airflow parses them, and the difference between two commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.airflow.values import image_variable
from infra.images import content
from ops.dags.parsing import answer_of
from ops.releases.clone import Clone

PROGRAM = """
import json, pathlib, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
folder = pathlib.Path(sys.argv[1]).resolve()
bag = DagBag(folder)
errors = {str(pathlib.Path(file).relative_to(folder)): text for file, text in bag.import_errors.items()}
dags = {}
for dag_id, dag in bag.dags.items():
    file = str(pathlib.Path(dag.fileloc).resolve().relative_to(folder))
    try:
        DagSerialization.to_dict(dag)
    except Exception as error:
        errors[file] = f"{type(error).__name__}: {error}"
    dags[dag_id] = {"file": file, "schedule": "none" if dag.schedule is None else str(dag.schedule)}
print(json.dumps({"errors": errors, "dags": dags}))
"""


@dataclass(frozen=True)
class Dag:
    """A DAG of a commit.

    Attributes:
        schedule: Its schedule; `none` if it is only triggered manually.
        content: The Git object of its folder, or of its file if it has no folder.
    """

    schedule: str
    content: str


@dataclass(frozen=True)
class Dags:
    """The DAGs of a commit.

    Attributes:
        dags: The DAGs, by DAG ID.
        shared: The Git objects of folders and files without a DAG, which all DAGs may use, by name.
        errors: The import errors, by path in the DAG folder.
    """

    dags: Mapping[str, Dag] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DagDifference:
    """The difference between the DAGs of two commits.

    Attributes:
        added: DAGs that only the newer commit has.
        removed: DAGs that only the older commit has.
        changed: DAGs with changed files.
        shared: Shared folders and files that changed.
        schedules: The older and the newer schedule of each DAG whose schedule changed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    schedules: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.added or self.removed or self.changed or self.shared or self.schedules)


def dags_of(clone: Clone, commit: str, folder: str, tree: Path) -> Dags:
    """Return the DAGs of a commit.

    This clone's Airflow parses them in a separate process without the user's environment variables.

    Args:
        clone: The clone.
        commit: The commit.
        folder: The DAG folder in the commit.
        tree: The folder with the commit's files.

    Raises:
        OperationError: Airflow fails, or does not finish in time.
    """
    if not (tree / folder).is_dir():
        return Dags()
    entries = clone.entries(commit, folder)
    images = {image_variable(image): "image:tag" for image in content.names(tree)}
    answer = answer_of(PROGRAM, tree / folder, images)
    homes = {dag_id: Path(found["file"]).parts[0] for dag_id, found in answer["dags"].items()}
    return Dags(
        dags={dag_id: Dag(found["schedule"], entries[homes[dag_id]]) for dag_id, found in answer["dags"].items()},
        shared={name: content for name, content in entries.items() if name not in homes.values()},
        errors=answer["errors"],
    )


def dag_difference(before: Dags, after: Dags) -> DagDifference:
    """Return the difference between the DAGs of two commits."""
    older, newer = before.dags, after.dags
    both = sorted(older.keys() & newer.keys())
    names = sorted(before.shared.keys() | after.shared.keys())
    return DagDifference(
        added=tuple(sorted(newer.keys() - older.keys())),
        removed=tuple(sorted(older.keys() - newer.keys())),
        changed=tuple(name for name in both if older[name].content != newer[name].content),
        shared=tuple(name for name in names if before.shared.get(name) != after.shared.get(name)),
        schedules={
            name: (older[name].schedule, newer[name].schedule)
            for name in both
            if older[name].schedule != newer[name].schedule
        },
    )
