"""Programs in separate Python environments, because their packages conflict with Airflow's.

The environment variable `<TOOL>_PYTHON`, such as SODA_PYTHON, names the interpreter of the environment. A program reads
one JSON value from standard input and writes one to standard output; what it writes to standard error is logged. Pass
secrets in the value: the program's arguments and environment have none.
"""

import json
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

from ml_common.errors import PermanentError

log = logging.getLogger(__name__)

# The environment of a task has secrets, which a tool does not need.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG")


def run(tool: str, program: Path, value: Any) -> Any:
    """Run a program in the environment of a tool; return what it answers to a value.

    Raises:
        PermanentError: The environment is missing, or the program failed.
    """
    variable = f"{tool.upper()}_PYTHON"
    python = os.environ.get(variable, "")
    if not Path(python).is_file():
        raise PermanentError(
            f"The environment of {tool} is missing: run `make setup`, or rebuild the image `ml` ({variable} is "
            f"{python!r})."
        )
    done = subprocess.run(
        [python, "-I", str(program)],
        input=json.dumps(value, default=str),
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.stderr:
        log.info("%s: %s", tool, done.stderr.rstrip())
    if done.returncode != 0:
        raise PermanentError(f"{tool} failed with exit code {done.returncode}: see its output in this log.")
    return json.loads(done.stdout)
