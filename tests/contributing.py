"""The example in CONTRIBUTING.md: a new DAG with its own image, prefix and model server, written as its reader does."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from infra.documents import REPOSITORY
from ops.dags.scaffold import write_dag
from ops.plan.resources import Recording

BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
# Its first line names the file that it belongs to.
HEADER = re.compile(r"# ([\w./-]+)(, .*)?\n")
EXAMPLE = "churn"


def copy(root: Path) -> None:
    """Copy the working tree's files, without those that Git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, root / name)


def follow(root: Path) -> None:
    """Write the files of the example to a copy of the repository, up to `make requirements`."""
    write_dag(EXAMPLE, root)
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    declaration = next(block for block in BLOCK.findall(text) if "dag_schema.json" in block)
    declared = re.sub(r"^image: \w+", f"image: {EXAMPLE}", declaration, count=1, flags=re.MULTILINE)
    (root / "dags" / EXAMPLE / "dag.yaml").write_text(declared)
    for block in BLOCK.findall(text):
        if header := HEADER.match(block):
            file, where = root / header[1], header[2]
            content = block[header.end() :]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_with_tasks(file.read_text(), content) if where else content)
    with (root / "requirements" / "dev.in").open("a") as requirements:
        requirements.write(f"-r {EXAMPLE}.in\n")
    (root / "requirements" / f"{EXAMPLE}.txt").touch()


def recorded(root: Path, stack: str) -> Recording:
    """Return the resources of the program in a copy of the repository, with secrets in plain text."""
    program = f"from ops.plan.recording import record; print(record({stack!r}, reveal=True).to_json())"
    return Recording.from_json(run(root, "-c", program))


def run(root: Path, *arguments: str) -> str:
    """Run Python in a copy of the repository, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _with_tasks(dag: str, tasks: str) -> str:
    """Add tasks to the end of the function of a DAG."""
    before, call, after = dag.rpartition(f"\n\n{EXAMPLE}()\n")
    return f"{before.rstrip()}\n\n{textwrap.indent(tasks.rstrip(), '    ')}\n{call}{after}"
