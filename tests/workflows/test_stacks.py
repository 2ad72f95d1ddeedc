"""The workflows know every stack."""

import shutil
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from infra.settings.loading import stack_summaries
from ops.pulumi.new_stack import write_stack
from ops.releases import workflows

from .parsed import FILES, FOLDER, workflow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the workflows of the four stacks that it starts with."""
    for stack in ("dev", "local", "staging", "prod"):
        shutil.copy(REPOSITORY / f"Pulumi.{stack}.yaml", tmp_path)
    shutil.copytree(FOLDER, tmp_path / ".github" / "workflows")
    workflows.write(tmp_path)
    return tmp_path


def test_the_workflows_follow_the_stack_files() -> None:
    stacks = stack_summaries()
    for file in FILES:
        assert workflows.text_with(file.read_text(), stacks) == file.read_text(), file.name


def test_a_new_stack_is_offered_checked_for_drift_and_promoted_to(root: Path) -> None:
    write_stack("qa", "staging", root)
    changed = {file.stem: workflow(file) for file in workflows.write(root)}
    assert set(changed) == {"drift", "promote", "release", "rollback"}
    assert {"stack": "qa", "branch": "qa"} in changed["drift"]["jobs"]["drift"]["strategy"]["matrix"]["include"]
    inputs = {name: content["on"]["workflow_dispatch"] for name, content in changed.items()}
    assert inputs["release"]["inputs"]["stack"]["options"] == ["dev", "qa", "staging", "prod"]
    assert inputs["rollback"]["inputs"]["stack"]["options"] == ["dev", "qa", "staging", "prod"]
    assert inputs["promote"]["inputs"]["from"]["options"] == ["dev", "staging"]
    assert inputs["promote"]["inputs"]["to"]["options"] == ["qa", "staging", "prod"]


def test_only_the_lists_of_stacks_change(root: Path) -> None:
    before = {file.name: (root / workflows.FOLDER / file.name).read_text().splitlines() for file in FILES}
    write_stack("qa", "staging", root)
    for file in workflows.write(root):
        new = [line for line in file.read_text().splitlines() if line not in before[file.name]]
        assert new
        assert all("qa" in line for line in new)
        assert len(new) <= 2
