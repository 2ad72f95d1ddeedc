"""Programs under Pulumi's own engine, with a backend in a folder; for tests that have the engine on PATH."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.documents import REPOSITORY
from ops.cli import stacks as operations
from ops.pulumi.deployment import Deployment

PROGRAMS = ("pulumi", *(f"pulumi-resource-{provider}" for provider in ("aws", "kubernetes", "random")))
# What the program reads beside its settings.
SOURCES = ("infra", "images", "helm-values", "dags", "requirements")


def missing_programs() -> list[str]:
    """Return those of the programs that are not on PATH."""
    return [program for program in PROGRAMS if not shutil.which(program)]


def backend(folder: Path) -> dict[str, str]:
    """Return the environment of a CLI that keeps its state in a folder."""
    (folder / "state").mkdir()
    return {
        "PULUMI_HOME": str(folder / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


@contextmanager
def small_stack(folder: Path, program: str, path: str, **environment: str) -> Iterator[Deployment]:
    """Deploy a small program as the stack `small`, which the commands of `ops` then find."""
    project = folder / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: small\nruntime: python\n")
    (project / "__main__.py").write_text(program)
    environment |= {**backend(folder), "PATH": f"{Path(sys.executable).parent}:{path}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ops.pulumi.deployment.REPOSITORY", project)
        deployment = Deployment("small", "pulumi", environment)
        patch.setattr(operations, "resolve", lambda *_: SimpleNamespace(deployment=deployment))
        deployment.run("stack", "select", "--create")
        deployment.run("up", "--yes", "--skip-preview")
        yield deployment


class Engine:
    """A copy of the project with a backend of its own, so that nothing is written into the repository."""

    def __init__(self, folder: Path, stack: str, environment: Mapping[str, str]) -> None:
        self.stack = stack
        self.project = folder / "project"
        self.project.mkdir()
        for path in REPOSITORY.glob("Pulumi*.yaml"):
            shutil.copy(path, self.project)
        for name in SOURCES:
            shutil.copytree(REPOSITORY / name, self.project / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.project / ".venv").symlink_to(sys.prefix)
        self.environment = {
            **backend(folder),
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            # The chart's cache is the machine's.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "STANDIN_PYTHON": sys.executable,
            "PYTHONPATH": str(self.project),
            **environment,
        }

    def run(self, *arguments: str) -> str:
        """Run the CLI; return what it prints."""
        done = subprocess.run(
            ["pulumi", "--non-interactive", *arguments],
            cwd=self.project,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def state(self) -> list[dict[str, Any]]:
        """Return the resources that the backend knows."""
        return list(json.loads(self.run("stack", "export"))["deployment"].get("resources", []))
