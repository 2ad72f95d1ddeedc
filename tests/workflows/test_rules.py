"""What every workflow has to obey, and that the workflows know the stacks as the settings have them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.settings import StackSettings, load
from infra.settings.loading import neighbours
from tests.makefile import mistakes

from .parsed import FILES, FOLDER, Job, jobs, workflow

JOBS = list(jobs())
STEPS = [(job, step) for job in JOBS for step in job.steps if "run" in step]
AWS = "aws-actions/configure-aws-credentials"
# Targets that write to the branch `releases`, or move a stack's own.
WRITING = re.compile(r"^make (gate|promote|rollback|release) ")
ARGUMENT = r'[A-Z_]+=(?:[a-z0-9]+|"(?:[a-z]+/)?\$[A-Z_]+")'


def file_name(file: Path) -> str:
    return file.name


def chain() -> dict[str, StackSettings]:
    """Return the stacks that have releases, the first one first."""
    found = {stack: load(stack) for stack in neighbours()}
    following = {settings.release.after: stack for stack, settings in found.items() if settings.release}
    stacks: list[str] = []
    while (stack := following.get(stacks[-1] if stacks else None)) is not None:
        stacks.append(stack)
    assert len(stacks) == len(following), "the stacks make no single chain"
    return {stack: found[stack] for stack in stacks}


def branches() -> dict[str, str]:
    return {stack: settings.dags.branch for stack, settings in chain().items() if settings.dags}


def test_actionlint_finds_nothing() -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("not on PATH: actionlint")
    done = subprocess.run(["actionlint", *map(str, FILES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is(file: Path) -> None:
    for line in re.findall(r"^.*\buses: .*$", file.read_text(), re.MULTILINE):
        assert re.fullmatch(r" +(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version_everywhere() -> None:
    used = set(re.findall(r"uses: (\S+)@(\S+ # \S+)", "\n".join(file.read_text() for file in FILES)))
    assert len(dict(used)) == len(used)


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_no_secret_is_known_but_the_workflows_token_and_the_key_that_moves_branches(file: Path) -> None:
    assert set(re.findall(r"secrets\.(\w+)", file.read_text())) <= {"GITHUB_TOKEN", "RELEASE_KEY"}
    assert "secrets: inherit" not in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_a_token_may_do_nothing_that_a_job_does_not_ask_for(file: Path) -> None:
    assert workflow(file)["permissions"] == {}


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_no_workflow_runs_foreign_code_with_the_repositorys_rights(file: Path) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(workflow(file)["on"])


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_that_asks_for_a_cloud_role_has_an_identity_and_no_other_job_has_one(job: Job) -> None:
    asks = job.uses(AWS)
    assert (job.content["permissions"].get("id-token") == "write") is asks
    if asks:
        assert job.content["environment"]
        (step,) = [step for step in job.steps if step.get("uses", "").startswith(f"{AWS}@")]
        assert step["with"] == {"role-to-assume": "${{ vars.AWS_ROLE }}", "aws-region": "${{ vars.AWS_REGION }}"}


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_writes_to_the_repository_only_where_its_commands_do(job: Job) -> None:
    writes = any(WRITING.match(step.get("run", "")) for step in job.steps)
    assert job.content["permissions"]["contents"] == ("write" if writes else "read")
    if writes:
        assert {name for name in job.around["env"] if name.startswith("GIT_")} == {
            f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_job_ends_some_time_and_waits_for_another_of_its_kind(job: Job) -> None:
    assert job.content["timeout-minutes"] <= 90
    concurrency = job.content.get("concurrency") or job.around["concurrency"]
    assert concurrency["group"]
    if job.uses(AWS):
        assert concurrency["cancel-in-progress"] is False


@pytest.mark.parametrize(
    ("job", "step"), STEPS, ids=lambda value: value.get("run") if isinstance(value, dict) else str(value)
)
def test_a_step_is_one_make_command_with_variables_that_the_target_reads(job: Job, step: dict[str, Any]) -> None:
    assert re.fullmatch(rf"make [a-z-]+( {ARGUMENT})*", step["run"])
    assert mistakes(step["run"]) == []
    assert set(re.findall(r"\$([A-Z_]+)", step["run"])) <= set(job.environment(step))


def test_the_workflow_of_releases_follows_the_branch_of_the_first_stack() -> None:
    first, branch = next(iter(branches().items()))
    release = FOLDER / "release.yaml"
    assert workflow(release)["on"]["push"]["branches"] == [branch]
    assert set(re.findall(r"\|\| '(\w+)'|STACK == '(\w+)'", release.read_text())) == {(first, ""), ("", first)}


def test_images_are_signed_by_the_workflow_whose_signature_the_other_stacks_ask_for() -> None:
    (signing,) = {job.workflow for job in JOBS for step in job.steps if step.get("run", "").startswith("make sign")}
    branch = next(iter(branches().values()))
    repository = "https://github.com/example/airflow-on-kubernetes"
    identity = f"{repository}/.github/workflows/{signing}.yaml@refs/heads/{branch}"
    for settings in chain().values():
        if settings.release and settings.release.signed_by:
            assert re.search(settings.release.signed_by, identity)


def test_every_stack_is_checked_out_by_its_own_branch() -> None:
    maps = [json.loads(text) for file in FILES for text in re.findall(r"fromJSON\('(\{.*?\})'\)", file.read_text())]
    assert len(maps) >= 4
    for known in maps:
        assert known.items() <= branches().items()


def test_drift_is_looked_for_in_every_stack() -> None:
    (job,) = [job for job in JOBS if job.workflow == "drift"]
    include = job.content["strategy"]["matrix"]["include"]
    assert {one["stack"]: one["branch"] for one in include} == branches()


def test_the_stacks_to_choose_from_are_those_of_the_chain() -> None:
    def options(name: str, choice: str) -> list[str]:
        return list(workflow(FOLDER / f"{name}.yaml")["on"]["workflow_dispatch"]["inputs"][choice]["options"])

    stacks = list(chain())
    assert options("release", "stack") == options("rollback", "stack") == stacks
    assert options("promote", "from") == stacks[:-1]
    assert options("promote", "to") == stacks[1:]


@pytest.mark.parametrize(
    "job", [job for job in JOBS if any("make deploy " in step.get("run", "") for step in job.steps)], ids=str
)
def test_a_deployment_is_tested_before_it_is_recorded(job: Job) -> None:
    commands = [step["run"].split()[1] for step in job.steps if "run" in step]
    assert commands[-3:] == ["deploy", "smoke", "release"]
