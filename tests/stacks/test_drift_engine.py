"""Drift with Pulumi's engine and a file as the cloud; skipped if the Pulumi CLI is missing."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.cli import app as command
from ops.cli import stacks
from ops.pulumi.deployment import Deployment
from tests.programs import write_cloud_plugin
from tests.pulumi_engine import small_stack

if missing := [program for program in ("pulumi", "pulumi-language-python") if not shutil.which(program)]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

PROGRAM = """
import pulumi

class Thing(pulumi.CustomResource):
    def __init__(self, name, **properties):
        super().__init__("cloud:index:Thing", name, properties)

Thing("queue", size=2, tags={"team": "ml"})
Thing("login", user="admin", key=pulumi.Output.secret("the-first-key"))
Thing("bucket", size=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drift")


@pytest.fixture(scope="module")
def deployment(folder: Path) -> Iterator[Deployment]:
    """A small Pulumi program, deployed to a file as the cloud."""
    plugin = write_cloud_plugin(folder, "cloud")
    file = folder / "cloud.json"
    file.write_text("{}")
    with small_stack(folder, PROGRAM, f"{plugin.parent}:{os.environ['PATH']}", CLOUD=str(file)) as deployment:
        yield deployment


@pytest.fixture
def cloud(folder: Path, deployment: Deployment) -> Path:
    """The file with the deployed resources."""
    return folder / "cloud.json"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ops", *arguments])
    command.main()


def test_nothing_drifts_after_a_deployment(
    cloud: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "drift", "small")
    assert capsys.readouterr().out == "small has no drift\n"


def test_an_unreadable_resource_is_a_failure_and_no_drift(cloud: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = cloud.read_text()
    cloud.write_text(json.dumps({**json.loads(there), "denied": True}))
    with pytest.raises(SystemExit, match=r"^error: the state of small cannot be compared .* AccessDenied: not yours"):
        run(monkeypatch, "drift", "small")
    cloud.write_text(there)


def test_drift_is_shown_by_its_properties_and_undone_by_a_deployment_that_refreshes(
    cloud: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed = json.loads(cloud.read_text())
    changed = {
        "queue": {"size": 5, "tags": {"team": "ml", "by": "hand"}},
        "login": {"user": "admin", "key": "the-second-key"},
    }
    cloud.write_text(json.dumps(changed))
    state = cloud.parent / "state" / ".pulumi" / "stacks" / "small" / "small.json"
    before = state.read_bytes()
    with pytest.raises(SystemExit, match=r"^2$"):
        run(monkeypatch, "drift", "small")
    assert capsys.readouterr().out.splitlines() == [
        "- cloud:index:Thing bucket: deleted",
        "~ cloud:index:Thing login",
        "    key: [secret] -> [secret]",
        "~ cloud:index:Thing queue",
        "    size: 2 -> 5",
        "    tags.by: (none) -> hand",
        "small has drifted: 2 changed, 1 deleted. `make deploy STACK=small REFRESH=1` undoes these changes",
    ]
    assert state.read_bytes() == before
    stacks.preview_and_deploy(deployment, None, yes=True, refresh=True)
    assert json.loads(cloud.read_text()) == deployed
