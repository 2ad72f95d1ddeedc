"""Write a new DAG with its steps, its declaration and its test, from the files in `template/`."""

from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

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
        OperationError: The ID is invalid, one of the files exists, or they cannot be written.
    """
    check_dag_id(dag_id)
    files = {file.format(dag_id=dag_id): TEMPLATE / template for template, file in FILES.items()}
    folder, test = f"dags/{dag_id}", FILES["test.txt"].format(dag_id=dag_id)
    if existing := next((path for path in (folder, test) if (root / path).exists()), None):
        raise OperationError(f"{existing} already exists: choose another NAME, or edit it")
    try:
        # Nothing is in its place before all of it is written.
        with TemporaryDirectory(dir=root, prefix=".new-dag-") as staging:
            for file, template in files.items():
                path = Path(staging, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(Template(template.read_text()).substitute(dag_id=dag_id))
            Path(staging, test).replace(root / test)
            Path(staging, folder).replace(root / folder)
    except OSError as error:
        raise OperationError(f"{folder} cannot be written ({error.strerror}): check the disk and the folder") from error
    return [root / file for file in files]
