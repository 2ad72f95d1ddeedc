"""Programs in separate Python environments, because their packages conflict with Airflow's.

The environment variable `<TOOL>_PYTHON`, such as SODA_PYTHON, names the interpreter of the environment. A program reads
one JSON value from standard input and writes one to standard output; each line that it writes to standard error is
logged at once. Pass secrets in the value: the program's arguments have none, and its environment only those of
`variables`.
"""

import json
import logging
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import IO, Any, cast

from ml_common.errors import PermanentError

log = logging.getLogger(__name__)

# The environment of a task has secrets, which a tool does not need.
ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG")


def run(
    tool: str,
    program: Path,
    value: Any,
    variables: Mapping[str, str] = MappingProxyType({}),
    failure: type[Exception] = PermanentError,
) -> Any:
    """Run a program in the environment of a tool; return what it answers to a value.

    Args:
        tool: The name of the tool.
        program: The file of the program.
        value: What the program reads.
        variables: Environment variables of the program, in addition to ENVIRONMENT.
        failure: The error if the program failed.

    Raises:
        PermanentError: The environment is missing.
    """
    variable = f"{tool.upper()}_PYTHON"
    python = os.environ.get(variable, "")
    if not Path(python).is_file():
        raise PermanentError(
            f"The environment of {tool} is missing: run `make .venv-{tool}/ready`, or set `image` in dag.yaml to an "
            f"image that has it ({variable} is {python!r})."
        )
    own = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    with TemporaryFile("w+") as answer:
        exit_code = _run(
            [python, "-I", str(program)], json.dumps(value, default=str), {**own, **variables}, answer, tool
        )
        if exit_code != 0:
            raise failure(f"{tool} failed with exit code {exit_code}: see its output in this log.")
        answer.seek(0)
        return json.load(answer)


def _run(command: list[str], value: str, environment: Mapping[str, str], answer: Any, tool: str) -> int:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=answer, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        written, logged = cast("IO[str]", process.stdin), cast("IO[str]", process.stderr)
        try:
            with suppress(BrokenPipeError), written:  # the program ended without reading
                written.write(value)
            for line in logged:
                log.info("%s: %s", tool, line.rstrip())
            return process.wait()
        except BaseException:  # such as the end of the task
            process.kill()
            raise
