"""Create the virtual environments from the pinned requirements, with nothing but a Python at hand.

`create main` makes `.venv` (Airflow, the ML libraries, the tools), `create mlflow` makes `.venv-mlflow` (the MLflow
server, which does not resolve together with Airflow), `pin` writes `requirements/*.txt` anew from `requirements/*.in`.

Every package is a wheel with a hash that the requirements pin: what an index serves later under the same version is
refused, and no build of a package runs. Exempt is only PyTorch where it is not PyPI's, with the CUDA libraries that
such a build names: the wheels of PyTorch's own index, and those in a folder that the user names, have other hashes.

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

from ops.process_environment import PACKAGES, enter

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
SUPPORTED = ((3, 11), (3, 14))  # the versions for which every pinned package has wheels
ENVIRONMENTS = {
    # name: folder, requirements, free disk that it needs in GiB (torch from PyPI brings CUDA with it)
    "main": (REPOSITORY / ".venv", REQUIREMENTS / "dev.txt", 9),
    "mlflow": (REPOSITORY / ".venv-mlflow", REQUIREMENTS / "mlflow.txt", 1),
}
# PyPI's PyTorch with its CUDA libraries has a file for itself, for other builds of it come without them.
TORCH_FILE = REQUIREMENTS / "torch.txt"
TORCH = re.compile(r"(torch|nvidia-|cuda-|triton)")
# A requirement with its hashes: the lines after the first are indented.
PIN = re.compile(r"^\S.*\n(?:[ \t].*\n)*", re.MULTILINE)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    create_parser = commands.add_parser("create", help="create one environment, or bring it up to date")
    create_parser.add_argument("name", choices=ENVIRONMENTS)
    pin_parser = commands.add_parser("pin", help="write requirements/*.txt anew")
    upgrade = bool(os.environ.get("UPGRADE"))
    text = "take the newest versions (also by UPGRADE=1)"
    pin_parser.add_argument("--upgrade", action="store_true", default=upgrade, help=text)
    arguments = parser.parse_args()
    enter(PACKAGES)
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
    echo(f"installing {requirements.relative_to(REPOSITORY)} into {folder.name} (a minute or more the first time)")
    interpreter = folder / "bin" / "python"
    if not runs(interpreter):
        shutil.rmtree(folder, ignore_errors=True)
        check_free_disk(folder.parent, gibibytes)
        run([python, "-m", "venv", str(folder)], NO_VENV)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    install_pinned(pip, REQUIREMENTS / "uv.txt")
    install = [str(folder / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(interpreter)]
    install_pinned([*install, "--no-build"], requirements)
    if name == "main":
        install_torch([*install, "--no-build"])
        # Built by the setuptools that is installed by now: one that uv fetches for it would come without a hash.
        run([*install, "--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY)], UNREACHABLE)
    ready.write_text(f"{requirements.name}\n")
    echo(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


NO_VENV = (
    "python3 cannot create virtual environments: install what it needs for that "
    "(on Debian and Ubuntu: apt-get install python3-venv)"
)
UNREACHABLE = (
    "the packages could not be installed (the installer's own words are above): check that this machine reaches its "
    "Python package index, or set UV_INDEX_URL, UV_FIND_LINKS or "
    "a proxy as uv documents them, then run the same command again"
)


OTHER_HASH = (
    "a package is not the one that the requirements pin, and was not installed (the installer's output above names it "
    "and both hashes): see which index or folder UV_INDEX_URL, PIP_INDEX_URL, UV_FIND_LINKS or PIP_FIND_LINKS names"
)
# As pip and uv say it.
MISMATCH = re.compile(r"hash mismatch|do not match the hashes", re.IGNORECASE)


def install_pinned(install: list[str], requirements: Path) -> None:
    """Install what a requirements file names, all of it and nothing else, if it has one of the hashes given there."""
    command = [*install, "--no-deps", "--require-hashes", "-r", str(requirements)]
    done = subprocess.run(command, check=False, env=environment(), stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        fail(OTHER_HASH if MISMATCH.search(done.stderr) else UNREACHABLE)


def install_torch(install: list[str]) -> None:
    """Install PyTorch's build for this machine's accelerator where there is one within reach, else PyPI's.

    PyPI's Linux wheels of torch bring 4 GiB of CUDA libraries; PyTorch's own index has a build for CPUs, which uv
    selects by the driver that it finds. Wheels in UV_FIND_LINKS or PIP_FIND_LINKS take precedence.
    """
    versions = [pin.split()[0] for pin in pins(TORCH_FILE) if pin.startswith("torch")]
    if torch_in_find_links():
        run([*install, *versions], UNREACHABLE)
        return
    if sys.platform == "linux":
        # Without retries: a machine that cannot reach PyTorch's index finds out at once.
        chosen = subprocess.run(
            [*install, "--torch-backend", "auto", *versions],
            check=False,
            capture_output=True,
            text=True,
            env={**environment(), "UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "10"},
        )
        if chosen.returncode == 0:
            return
        echo("PyTorch's own package index is out of reach: taking torch from PyPI, with its CUDA libraries (5 GiB)")
    install_pinned(install, TORCH_FILE)


def torch_in_find_links() -> bool:
    """Say whether a folder named in UV_FIND_LINKS has a wheel of torch."""
    places = re.split(r"[\s,]+", environment().get("UV_FIND_LINKS", ""))
    return any(next(Path(place).glob("torch-*.whl"), None) for place in places if place and Path(place).is_dir())


def pin(*, upgrade: bool) -> None:
    """Compile requirements/*.in to *.txt; all but the MLflow server's share the versions of dev.txt."""
    uv = str(REPOSITORY / ".venv" / "bin" / "uv")
    if not runs(Path(uv)):
        fail("uv is not there: run `make setup` first")
    for name in ("dev", "mlflow", "airflow", "ml", "serving", "infra", "torch", "uv"):
        source, target = REQUIREMENTS / f"{name}.in", REQUIREMENTS / f"{name}.txt"
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", version(SUPPORTED[0])]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", str(source)]
        command += ["--generate-hashes", *(["--upgrade"] if upgrade else [])]
        command += ["--constraints", str(REQUIREMENTS / "dev.txt")] if name not in ("dev", "mlflow") else []
        with tempfile.TemporaryDirectory() as folder:
            # uv keeps the versions that it finds in its output file, where it can.
            resolved = Path(folder, target.name)
            resolved.write_text(target.read_text() if target.exists() else "")
            unresolved = f"{source.name} could not be resolved (uv's own words are above); it keeps the pins it has"
            run([*command, "--output-file", str(resolved)], unresolved)
            kept = [pin for pin in pins(resolved) if belongs(pin, name)]
        target.write_text("".join(kept))
        echo(f"{target.relative_to(REPOSITORY)}: {len(kept)} packages")


def pins(file: Path) -> list[str]:
    """Return the requirements of a file, each with its hashes."""
    return PIN.findall(file.read_text())


def belongs(pin: str, name: str) -> bool:
    """Say whether a requirement belongs into the file of this name: PyTorch's are apart from all others."""
    return bool(TORCH.match(pin)) is (name == TORCH_FILE.stem)


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


def echo(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)  # noqa: T201


def fail(sentence: str) -> NoReturn:
    """Stop with `sentence`."""
    sys.exit(f"error: {sentence}")


if __name__ == "__main__":
    main()
