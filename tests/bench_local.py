"""Measure the laptop mode from a fresh clone: `make bench-local`. Requires only Python; prints results without asserts.

The clone is in a temporary folder, has its own ports and data, and installs packages from the installer's cache.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PARSE = """
import importlib.util, json, sys, time
from pathlib import Path
sys.path.insert(0, "dags")
import airflow.sdk
figures = {}
for path in sorted(Path("dags").glob("*/*_dag.py")):
    began = time.perf_counter()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    figures[str(path)] = [time.perf_counter() - began, "torch" in sys.modules]
print(json.dumps(figures))
"""

WRITE = """
import io, os
from ops.laptop.home import DEFAULT_HOME, Home
from ops.laptop.laptop import Laptop
s3, body = Laptop.known(Home(DEFAULT_HOME)).s3, os.urandom(2**26)
for number in range(32):
    s3.upload_fileobj(io.BytesIO(body), "airflow-artifacts", f"bench/{number}")
"""
KILL = """
from ops.laptop import processes
from ops.laptop.home import DEFAULT_HOME, Home
for record in processes.records(Home(DEFAULT_HOME)).values():
    for process in record.members():
        process.kill()
"""


def main() -> None:
    """Print the machine, then one line per result."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(
        f"machine: {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {platform.platform()}"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clone = Path(folder, "clone")
        run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], cwd=Path(folder))
        try:
            measure(clone)
        finally:
            if (clone / ".venv").exists():
                run(["make", "--silent", "clean"], clone)
            shutil.rmtree(clone)


def measure(clone: Path) -> None:
    """Print the durations in this clone."""
    seconds, output = run(["make", "--silent", "up"], clone)
    print(f"fresh clone to served model: {seconds:.1f} s (target: under 360)")
    for line in output.splitlines():
        if re.search(r"is ready after|^seconds|^accuracy", line):
            print(f"  {line}")
    run(["make", "--silent", "down"], clone)
    laptop = [str(clone / ".venv/bin/python"), "-m", "ops"]
    for what, command in {
        "second `make up`, after `make down`, to the UI ready (target: under 60 s)": [*laptop, "up", "--no-run"],
        "`make up` while everything runs, to the UI ready": [*laptop, "up", "--no-run"],
        "a second run of the same inputs": [*laptop, "up"],
    }.items():
        print(f"{what}: {run(command, clone)[0]:.1f} s")
    print(f"idle, after a minute: {memory(laptop, clone)}")
    print(f"2 GiB written to S3: {run([laptop[0], '-c', WRITE], clone)[0]:.1f} s")
    print(f"a minute after that: {memory(laptop, clone)}")
    print("after `kill -9` of everything:")
    run([laptop[0], "-c", KILL], clone)
    print(f"  `make up` to the UI ready: {run([*laptop, 'up', '--no-run'], clone)[0]:.1f} s")
    figures = json.loads(run([laptop[0], "-c", PARSE], clone)[1].splitlines()[-1])
    for path, (parse_seconds, with_torch) in figures.items():
        print(f"parse {path}: {parse_seconds:.3f} s (target: under 0.5), torch {'' if with_torch else 'not '}imported")


def memory(laptop: list[str], clone: Path) -> str:
    """Return the total memory in the output of `make status`, after an idle minute."""
    time.sleep(60)
    return f"{run([*laptop, 'status'], clone)[1].splitlines()[-1]} (target: under 3072)"


def run(command: list[str], cwd: Path) -> tuple[float, str]:
    """Run a command; return its duration and output, or exit with its output if it failed."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("LAPTOP_HOME", "MAKEFLAGS", "MAKELEVEL")
    }
    began = time.monotonic()
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began, done.stdout


if __name__ == "__main__":
    main()
