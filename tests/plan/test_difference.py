import shutil
import subprocess
from pathlib import Path

import pytest

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.plan.against import recording_of
from ops.plan.difference import Change, difference
from ops.plan.recording import Recording, Resource, stacks


def recording(stack: str, *resources: Resource) -> Recording:
    return Recording("airflow", stack, "us-east-1", resources)


def bucket(stack: str, logical: str, /, *, protect: bool = False, **inputs: object) -> Resource:
    urn = f"urn:pulumi:{stack}::airflow::aws:s3/bucket:Bucket::{logical}"
    return Resource(urn=urn, type="aws:s3/bucket:Bucket", name=logical, inputs=inputs, protect=protect)


def test_a_recording_does_not_differ_from_itself(recordings: dict[str, Recording]) -> None:
    assert not difference(recordings["prod"], recordings["prod"])


def test_created_and_deleted_resources_are_listed() -> None:
    found = difference(recording("dev", bucket("dev", "old")), recording("dev", bucket("dev", "new")))
    assert [resource.name for resource in found.added] == ["new"]
    assert [resource.name for resource in found.removed] == ["old"]


def test_a_changed_input_is_listed_with_its_path_and_both_values() -> None:
    before = bucket("dev", "data", tags={"owner": "a"}, rules=[{"days": 7}], zones=["a", "b"])
    after = bucket("dev", "data", tags={"owner": "b"}, rules=[{"days": 30}], zones=["a"], locked=True)
    (changed,) = difference(recording("dev", before), recording("dev", after)).changed
    assert changed.changes == (
        Change("locked", "(none)", "true"),
        Change("rules.0.days", "7", "30"),
        Change("tags.owner", "a", "b"),
        Change("zones", "a, b", "a"),
    )


def test_a_policy_is_compared_statement_by_statement() -> None:
    before = bucket("dev", "data", policy='{"Statement": [{"Effect": "Deny"}]}')
    after = bucket("dev", "data", policy='{"Statement":[{"Effect":"Allow"}]}')
    (changed,) = difference(recording("dev", before), recording("dev", after)).changed
    assert changed.changes == (Change("policy.Statement.0.Effect", "Deny", "Allow"),)


def test_the_kubeconfig_that_a_plan_invents_is_not_a_difference() -> None:
    before, after = (bucket("local", "kubernetes", kubeconfig=f"/tmp/{number}.yaml") for number in (1, 2))
    assert not difference(recording("local", before), recording("local", after))


def test_lost_protection_is_a_difference() -> None:
    found = difference(recording("dev", bucket("dev", "data", protect=True)), recording("dev", bucket("dev", "data")))
    assert found.changed[0].changes == (Change("(protected)", "true", "false"),)


def test_stack_names_are_not_a_difference_but_words_that_contain_them_are() -> None:
    before = bucket("dev", "data", name="airflow-dev-data", tag="dev", kind="devx", owner="xdev")
    after = bucket("prod", "data", name="airflow-prod-data", tag="prod", kind="prodx", owner="xprod")
    (changed,) = difference(recording("dev", before), recording("prod", after)).changed
    assert changed.changes == (Change("kind", "devx", "prodx"), Change("owner", "xdev", "xprod"))


def test_dev_and_prod_differ_in_their_protection(recordings: dict[str, Recording]) -> None:
    found = difference(recordings["dev"], recordings["prod"])
    protected = [
        entry.resource.type for entry in found.changed for change in entry.changes if change.path == "(protected)"
    ]
    assert "aws:rds/instance:Instance" in protected


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A git repository with the current program."""
    for name in ("infra", "ops", "images", "requirements", "dags", "helm-values"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in REPOSITORY.glob("Pulumi*.yaml"):
        shutil.copy(file, tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)


def test_a_stack_is_compared_with_a_git_ref(clone: Path, recordings: dict[str, Recording]) -> None:
    settings = clone / "Pulumi.dev.yaml"
    settings.write_text(settings.read_text().replace("db.t4g.micro", "db.t4g.small"))
    git(clone, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "--message", "two")
    found = difference(recording_of("HEAD", "dev", clone), recordings["dev"])
    assert Change("instanceClass", "db.t4g.small", "db.t4g.micro") in [
        change for entry in found.changed for change in entry.changes
    ]
    assert not difference(recording_of("HEAD~1", "dev", clone), recordings["dev"])


def test_the_error_names_a_ref_whose_program_fails(clone: Path) -> None:
    (clone / "infra" / "__main__.py").write_text("raise RuntimeError('half done')\n")
    git(clone, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "--message", "two")
    with pytest.raises(
        OperationError, match=r"the stack dev of HEAD cannot be planned \(.*half done\): compare with another"
    ):
        recording_of("HEAD", "dev", clone)


def test_a_name_that_is_neither_a_stack_nor_a_ref_is_refused() -> None:
    with pytest.raises(
        OperationError, match=rf"^AGAINST=nope is neither a stack \({', '.join(stacks())}\) nor a git ref"
    ):
        recording_of("nope", "dev")
