"""Write the graph of each ZenML pipeline, which Airflow reads as a DAG; a new pipeline also gets its DAG file."""

import json
import subprocess
from pathlib import Path
from string import Template
from typing import Any

from infra.dag_declarations import check_dag_id
from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.dags.scaffold import TEMPLATE
from ops.environments import interpreter
from ops.process_environment import SYSTEM, allowed

PIPELINE = "pipeline.py"
GRAPH = "pipeline.json"
PROGRAM = "dags/ml_common/zenml_program.py"


def pipelines(root: Path = REPOSITORY) -> list[Path]:
    """Return the folders of the DAGs that are ZenML pipelines."""
    return sorted(file.parent for file in root.glob(f"dags/*/{PIPELINE}"))


def graph_text(folder: Path) -> str:
    """Compile the pipeline in a DAG's folder, and return its graph as a file.

    Raises:
        OperationError: The pipeline cannot be imported, or cannot become a DAG.
    """
    done = subprocess.run(
        [interpreter("zenml"), "-I", folder.parents[1] / PROGRAM],
        input=json.dumps({"command": "graph", "arguments": {"dag_id": folder.name}}),
        env=allowed(SYSTEM),
        capture_output=True,
        text=True,
        check=False,
    )
    file = f"dags/{folder.name}/{PIPELINE}"
    if done.returncode != 0:
        raise OperationError(f"{file} cannot be compiled: correct it, then rerun `make zenml`\n{done.stderr.rstrip()}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise OperationError(f"{answer['error'].rstrip('.')} ({file})")
    return json.dumps(answer["result"], indent=2) + "\n"


def write(folder: Path) -> list[Path]:
    """Write what changed: the graph, and the files that a new pipeline lacks. Return the files.

    Raises:
        OperationError: The name of the folder is not a DAG ID, or the pipeline cannot become a DAG.
    """
    check_dag_id(folder.name)
    graph = graph_text(folder)
    files = {folder / GRAPH: graph}
    for name, template in _missing(folder).items():
        files[folder / name] = Template(TEMPLATE.joinpath(template).read_text()).substitute(
            dag_id=folder.name, rows=_rows(json.loads(graph))
        )
    changed = [file for file, text in files.items() if not file.exists() or file.read_text() != text]
    for file in changed:
        file.write_text(files[file])
    return changed


def _missing(folder: Path) -> dict[str, str]:
    """Return the templates of the files that a DAG's folder lacks."""
    wanted = {
        "__init__.py": "package.txt",
        f"{folder.name}_dag.py": "zenml_dag.txt",
        "dag.yaml": "zenml_declaration.txt",
    }
    return {name: template for name, template in wanted.items() if not (folder / name).exists()}


def _rows(graph: dict[str, Any]) -> str:
    return "\n".join(f"| {name} | runs the step | see the error in the log |" for name in graph["steps"])
