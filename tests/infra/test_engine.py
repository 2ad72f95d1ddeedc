"""The program under Pulumi's own engine with a local backend; skipped where its command or a provider is missing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings.loading import REPOSITORY

PROVIDERS = ("aws", "kubernetes", "random")


PROGRAMS = ("pulumi", *(f"pulumi-resource-{provider}" for provider in PROVIDERS))

if missing := [program for program in PROGRAMS if not shutil.which(program)]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)


class Engine:
    """A copy of the project with a backend of its own, so that nothing is written into the repository."""

    def __init__(self, folder: Path, stack: str) -> None:
        self.project = folder / "project"
        self.project.mkdir()
        for path in REPOSITORY.glob("Pulumi*.yaml"):
            shutil.copy(path, self.project)
        for name in ("infra", "images", "helm-values", "dags"):
            (self.project / name).symlink_to(REPOSITORY / name)
        (self.project / ".venv").symlink_to(sys.prefix)
        (folder / "state").mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PULUMI_HOME": str(folder / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "STANDIN_PYTHON": sys.executable,
            "AWS_REGION": "us-east-1",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.run("stack", "init", stack)

    def run(self, *arguments: str) -> str:
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
        return list(json.loads(self.run("stack", "export"))["deployment"].get("resources", []))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = Engine(tmp_path_factory.mktemp("engine"), "dev")
    engine.run("up", "--yes", "--skip-preview")
    return engine


def test_a_second_update_changes_nothing(engine: Engine) -> None:
    engine.run("preview", "--expect-no-changes")


def test_passwords_are_encrypted_in_the_state(engine: Engine) -> None:
    passwords = [one for one in engine.state() if one["type"] == "random:index/randomPassword:RandomPassword"]
    assert len(passwords) == 3
    for holder in (
        *passwords,
        *(one for one in engine.state() if one["type"] == "aws:rds/instance:Instance"),
    ):
        value = holder["outputs"].get("result") or holder["outputs"].get("password")
        assert "ciphertext" in value


def test_destroying_leaves_nothing_and_ends_with_the_network(engine: Engine) -> None:
    log = engine.project.parent / "log"
    engine.environment["STANDIN_LOG"] = str(log)
    engine.run("destroy", "--yes", "--skip-preview")
    assert [one for one in engine.state() if one.get("custom")] == []
    deleted = [one["urn"].rpartition("::")[2] for one in map(json.loads, log.read_text().splitlines())]
    assert deleted.index("cluster") < deleted.index("nat-gateway-us-east-1a") < deleted.index("vpc")
