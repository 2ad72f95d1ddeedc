"""Create the virtual environments from the pinned requirements, with nothing but a Python at hand.

`create main` makes `.venv` (Airflow, the ML libraries, the tools), `create mlflow` makes `.venv-mlflow` (the MLflow
server, which does not resolve together with Airflow), `pin` writes `requirements/*.txt` anew from `requirements/*.in`.

An environment is complete when its file `ready` is there; it is written last, so an interrupted install is repeated.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
SUPPORTED = ((3, 11), (3, 14))  # the versions for which every pinned package has wheels
ENVIRONMENTS = {
    # name: folder, requirements, free disk that it needs in GiB (torch from PyPI brings CUDA with it)
    "main": (REPOSITORY / ".venv", REQUIREMENTS / "dev.txt", 9),
    "mlflow": (REPOSITORY / ".venv-mlflow", REQUIREMENTS / "mlflow.txt", 1),
}
# Pinned by torch itself, and wanted only where torch's CUDA build is installed.
CUDA_LIBRARIES = re.compile(r"^(nvidia-|cuda-|triton)")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    create_parser = commands.add_parser("create", help="create one environment, or bring it up to date")
    create_parser.add_argument("name", choices=ENVIRONMENTS)
    pin_parser = commands.add_parser("pin", help="write requirements/*.txt anew")
    pin_parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    if arguments.command == "create":
        create(arguments.name)
    else:
        pin(upgrade=arguments.upgrade)


def create(name: str) -> None:
    """Create the environment `name`, or install what has changed in its requirements."""
    folder, requirements, gibibytes = ENVIRONMENTS[name]
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    python = supported_python()
    started = time.monotonic()
    say(f"installing {requirements.relative_to(REPOSITORY)} into {folder.name} (a minute or more the first time)")
    interpreter = folder / "bin" / "python"
    if not runs(interpreter):
        shutil.rmtree(folder, ignore_errors=True)
        check_free_disk(folder.parent, gibibytes)
        run([python, "-m", "venv", str(folder)], NO_VENV)
    # uv installs itself first, in the version that the requirements pin.
    run([str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", pinned_uv()], UNREACHABLE)
    install = [str(folder / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(interpreter)]
    if name == "main":
        install_with_torch([*install, "-r", str(requirements)])
        run([*install, "--no-deps", "--editable", str(REPOSITORY)], UNREACHABLE)
    else:
        run([*install, "-r", str(requirements)], UNREACHABLE)
    ready.write_text(f"{requirements.name}\n")
    say(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


NO_VENV = (
    "python3 cannot create virtual environments: install what it needs for that "
    "(on Debian and Ubuntu: apt-get install python3-venv)"
)
UNREACHABLE = (
    "the packages could not be installed (the installer's own words are above): check that this machine reaches its "
    "Python package index, or set UV_INDEX_URL, UV_FIND_LINKS or "
    "a proxy as uv documents them, then run the same command again"
)


def install_with_torch(install: list[str]) -> None:
    """Install with torch's build for this machine's accelerator where it is to be had, else with PyPI's.

    PyPI's Linux wheels of torch bring 4 GiB of CUDA libraries; PyTorch's own index has a build for CPUs, which uv
    selects by the driver that it finds. Wheels in UV_FIND_LINKS or PIP_FIND_LINKS take precedence.
    """
    if sys.platform == "linux" and not torch_in_find_links():
        # Without retries: a machine that cannot reach PyTorch's index finds out at once.
        chosen = subprocess.run(
            [*install, "--torch-backend", "auto"],
            check=False,
            capture_output=True,
            text=True,
            env={**environment(), "UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "10"},
        )
        if chosen.returncode == 0:
            return
        say("PyTorch's own package index is out of reach: taking torch from PyPI, with its CUDA libraries (5 GiB)")
    run(install, UNREACHABLE)


def torch_in_find_links() -> bool:
    """Say whether a folder named in UV_FIND_LINKS has a wheel of torch."""
    places = re.split(r"[\s,]+", environment().get("UV_FIND_LINKS", ""))
    return any(next(Path(place).glob("torch-*.whl"), None) for place in places if place and Path(place).is_dir())


def pin(*, upgrade: bool) -> None:
    """Compile requirements/*.in to *.txt; all but the MLflow server's share the versions of dev.txt."""
    uv = str(REPOSITORY / ".venv" / "bin" / "uv")
    if not runs(Path(uv)):
        fail("uv is not there: run `make setup` first")
    for name in ("dev", "mlflow", "airflow", "ml", "serving", "infra"):
        source, target = REQUIREMENTS / f"{name}.in", REQUIREMENTS / f"{name}.txt"
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", version(SUPPORTED[0])]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", str(source)]
        command += ["--upgrade"] if upgrade else []
        command += ["--constraints", str(REQUIREMENTS / "dev.txt")] if name not in ("dev", "mlflow") else []
        with tempfile.TemporaryDirectory() as folder:
            # uv keeps the versions that it finds in its output file, where it can.
            resolved = Path(folder, target.name)
            resolved.write_text(target.read_text() if target.exists() else "")
            unresolved = f"{source.name} could not be resolved (uv's own words are above); it keeps the pins it has"
            run([*command, "--output-file", str(resolved)], unresolved)
            pins = [line for line in resolved.read_text().splitlines() if not CUDA_LIBRARIES.match(line)]
        target.write_text("\n".join(pins) + "\n")
        say(f"{target.relative_to(REPOSITORY)}: {len(pins)} packages")


def supported_python() -> str:
    """Return a Python of a supported version: this one, else one that is on PATH by its version's name."""
    names = [sys.executable, *(f"python3.{minor}" for minor in range(SUPPORTED[1][1], SUPPORTED[0][1] - 1, -1))]
    probe = "import sys; print(*sys.version_info[:2])"
    for name in names:
        try:
            found = subprocess.run([name, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
        except (OSError, subprocess.CalledProcessError):
            continue
        if SUPPORTED[0] <= (int(found[0]), int(found[1])) <= SUPPORTED[1]:
            return name
    return fail(
        f"Python {version(SUPPORTED[0])} to {version(SUPPORTED[1])} is needed and python3 is "
        f"{version(sys.version_info[:2])}: install one of them, or name one with `make PYTHON=/path/to/python3 ...`"
    )


def version(numbers: tuple[int, ...]) -> str:
    """Write a version as people do: (3, 11) is 3.11."""
    return ".".join(map(str, numbers))


def check_free_disk(folder: Path, gibibytes: int) -> None:
    """Stop when the disk that holds `folder` has less than `gibibytes` free."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gibibytes:
        fail(f"{free:.1f} GiB are free on the disk of {folder} and {gibibytes} GiB are needed: free some space")


def pinned_uv() -> str:
    """Return uv's own pin, such as `uv==0.13.9`."""
    pins = (REQUIREMENTS / "dev.txt").read_text().splitlines()
    return next(pin for pin in pins if pin.startswith("uv=="))


def environment() -> dict[str, str]:
    """Return the process environment with pip's folders of wheels named for uv too."""
    found = dict(os.environ)
    if "PIP_FIND_LINKS" in found:
        found.setdefault("UV_FIND_LINKS", ",".join(found["PIP_FIND_LINKS"].split()))
    return found


def runs(program: Path) -> bool:
    """Say whether `program` is there and starts."""
    try:
        return subprocess.run([program, "--version"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def run(command: list[str], sentence: str) -> None:
    """Run `command`; stop with `sentence` when it fails."""
    if subprocess.run(command, check=False, env=environment()).returncode != 0:
        fail(sentence)


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)  # noqa: T201


def fail(sentence: str) -> NoReturn:
    """Stop with `sentence`."""
    sys.exit(f"error: {sentence}")


if __name__ == "__main__":
    main()
