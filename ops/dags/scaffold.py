"""Write a new DAG with its steps, its declaration and its test, from the files in `template/`."""

from pathlib import Path
from string import Template

from infra.dag_declarations import check_dag_id
from infra.documents import REPOSITORY
from infra.errors import OperationError

TEMPLATE = Path(__file__).with_name("template")
# The new file of each template.
FILES = {
    "package.txt": "dags/{dag_id}/__init__.py",
    "dag.txt": "dags/{dag_id}/{dag_id}_dag.py",
    "steps.txt": "dags/{dag_id}/steps.py",
    "declaration.txt": "dags/{dag_id}/dag.yaml",
    "test.txt": "tests/dags/test_{dag_id}.py",
}


def write_dag(dag_id: str, root: Path = REPOSITORY) -> list[Path]:
    """Write the files of a new DAG, and return them.

    Raises:
        OperationError: The ID is invalid, or one of the files exists.
    """
    check_dag_id(dag_id)
    files = {root / file.format(dag_id=dag_id): TEMPLATE / template for template, file in FILES.items()}
    if existing := next((file for file in (root / "dags" / dag_id, *files) if file.exists()), None):
        raise OperationError(f"{existing.relative_to(root)} already exists: choose another NAME, or edit it")
    for file, template in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(template.read_text()).substitute(dag_id=dag_id))
    return list(files)
