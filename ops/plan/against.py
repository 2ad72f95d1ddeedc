"""Record what a plan is compared with: another stack, or the same stack at a git ref."""

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.plan.recording import record, stacks
from ops.plan.resources import Recording
from ops.process_environment import PLAN, allowed


def recording_of(name: str, stack: str, root: Path = REPOSITORY) -> Recording:
    """Return the recording of the stack `name`, or of `stack` at the git ref `name`.

    Raises:
        OperationError: `name` is neither a stack nor a git ref, or the ref's program fails.
    """
    if (root / f"Pulumi.{name}.yaml").is_file():
        return record(name, root)
    with tempfile.TemporaryDirectory() as folder:
        _check_out(root, name, Path(folder))
        return _record_in(Path(folder), name, stack)


def _check_out(root: Path, ref: str, folder: Path) -> None:
    command = ["git", "-C", str(root), "archive", "--format=tar", ref]
    archive = subprocess.run(command, check=False, capture_output=True)
    if archive.returncode != 0:
        raise OperationError(
            f"AGAINST={ref} is neither a stack ({', '.join(stacks(root))}) nor a git ref: set it to one of them"
        )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def _record_in(folder: Path, ref: str, stack: str) -> Recording:
    """Run the recorder of the ref on the program of the ref."""
    # In commits without the package `ops`, the recorder is `infra.plan`.
    program = ("ops", "plan") if (folder / "ops").is_dir() else ("infra.plan",)
    result = subprocess.run(
        [sys.executable, "-m", *program, stack, "--recording"],
        cwd=folder,
        env={**allowed(PLAN), "PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise OperationError(f"the stack {stack} of {ref} cannot be planned ({last}): compare with another ref")
    return Recording.from_json(result.stdout)
