"""Rules for all workflows, and checks that the workflows match the stack settings."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings import StackSettings, load
from infra.settings.loading import stack_summaries
from infra.settings.stack_summaries import lineage
from tests.makefile import mistakes

from .parsed import FILES, FOLDER, Job, jobs, workflow

JOBS = list(jobs())
# Jobs that only validate the inputs of a manual run.
INPUTS = [job for job in JOBS if job.name == "inputs"]
STEPS = [(job, step) for job in JOBS for step in job.steps if "run" in step and job not in INPUTS]
CHECKOUT = "actions/checkout"
AWS = "aws-actions/configure-aws-credentials"
ARGUMENT = r'[A-Z_]+=(?:[a-z0-9]+|"(?:[a-z]+/)?\$[A-Z_]+(?:/[a-z.]+)?")'
# Variables that GitHub's runner sets for each step.
OF_THE_RUNNER = {"RUNNER_TEMP"}
PUBLISH = re.compile(r'make publish OPERATION=[a-z]+( (STACK|COMMIT)="\$[A-Z]+")? CHANGE="\$RUNNER_TEMP/change.json"')


def file_name(file: Path) -> str:
    return file.name


def chain() -> dict[str, StackSettings]:
    """Return the stacks that have releases, the first one first."""
    stacks = stack_summaries()
    names = sorted(stacks, key=lambda name: len(lineage(name, stacks)))
    return {name: load(name) for name in names if stacks[name].has_releases}


def branches() -> dict[str, str]:
    return {stack: settings.dags.branch for stack, settings in chain().items() if settings.dags}


def test_actionlint_reports_no_problems() -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("not on PATH: actionlint")
    done = subprocess.run(["actionlint", *map(str, FILES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_every_action_is_pinned_to_a_commit_with_its_version_in_a_comment(file: Path) -> None:
    for line in re.findall(r"^.*\buses: .*$", file.read_text(), re.MULTILINE):
        assert re.fullmatch(r" +(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_all_workflows_use_the_same_version_of_an_action() -> None:
    used = set(re.findall(r"uses: (\S+)@(\S+ # \S+)", "\n".join(file.read_text() for file in FILES)))
    assert len(dict(used)) == len(used)


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_workflows_use_no_secrets_except_their_token_and_the_release_key(file: Path) -> None:
    assert set(re.findall(r"secrets\.(\w+)", file.read_text())) <= {"GITHUB_TOKEN", "RELEASE_KEY"}
    assert "secrets: inherit" not in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_a_token_has_no_permissions_that_its_job_does_not_request(file: Path) -> None:
    assert workflow(file)["permissions"] == {}


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_no_workflow_runs_code_of_forks_with_the_repositorys_permissions(file: Path) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(workflow(file)["on"])


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_only_jobs_that_assume_a_cloud_role_have_an_identity_token(job: Job) -> None:
    asks = job.uses(AWS)
    assert (job.content["permissions"].get("id-token") == "write") is asks
    if asks:
        assert job.content["environment"]
        (step,) = [step for step in job.steps if step.get("uses", "").startswith(f"{AWS}@")]
        assert step["with"] == {"role-to-assume": "${{ vars.AWS_ROLE }}", "aws-region": "${{ vars.AWS_REGION }}"}


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_no_job_token_can_write_to_the_repository(job: Job) -> None:
    assert job.content["permissions"].get("contents", "read") == "read"


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_checkout_leaves_no_credentials_on_disk(job: Job) -> None:
    for step in job.steps:
        if step.get("uses", "").startswith(f"{CHECKOUT}@"):
            assert step["with"].get("persist-credentials") is False
            assert not {"ssh-key", "token"} & step["with"].keys()


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_the_release_key_is_used_only_next_to_git(job: Job) -> None:
    """The job runs one command without dependencies, in an environment that no other job uses."""
    has_key = "RELEASE_KEY" in json.dumps(job.content)
    assert str(job.content.get("environment", "")).endswith("-branch") is has_key
    if not has_key:
        assert not any(text.startswith("make publish") for text in job.commands)
        return
    *preparation, last = job.steps
    assert [step["uses"].partition("@")[0] for step in preparation] == [CHECKOUT, "actions/download-artifact"]
    assert "ref" not in preparation[0]["with"]
    assert PUBLISH.fullmatch(last["run"])
    assert last["env"].pop("RELEASE_KEY") == "${{ secrets.RELEASE_KEY }}"
    assert "RELEASE_KEY" not in json.dumps(job.content)
    last["env"]["RELEASE_KEY"] = "${{ secrets.RELEASE_KEY }}"
    assert job.content["permissions"] == {"contents": "read"}
    assert {name for name in job.around["env"] if not name.startswith("GIT_CONFIG_")} == {
        f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }


def test_the_program_with_the_release_key_runs_in_an_isolated_python() -> None:
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    for target in ("publish", "check-out"):
        found = re.search(rf"^{target}:(.*)\n\t@(.*)$", makefile, re.MULTILINE)
        assert found
        prerequisites, recipe = found[1].partition("##")[0], found[2]
        assert prerequisites.strip() == ""
        assert recipe.startswith("$(handover) ")
    assert "\noverride handover := $(named_python) -I ops/releases/handover.py\n" in makefile


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_no_expression_is_expanded_in_a_command(file: Path) -> None:
    for name, job in workflow(file)["jobs"].items():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), name


@pytest.mark.parametrize("job", INPUTS, ids=str)
@pytest.mark.parametrize("evil", ["$(touch x)", "`id`", "0123abc; id", "--all", "0123abc\nx", "0" * 41, "prod"])
def test_manual_inputs_are_validated_before_any_job_assumes_a_role(job: Job, evil: str) -> None:
    [step] = job.steps
    inputs = workflow(FOLDER / f"{job.workflow}.yaml")["on"]["workflow_dispatch"]["inputs"]
    good = {"STACK": "prod", "FROM": "staging", "TO": "prod" if "from" in inputs else "0123abc"}
    given = {name: good[name] for name in step["env"]}

    def run(**environment: str) -> int:
        return subprocess.run(["bash", "-e", "-c", step["run"]], check=False, env=environment).returncode

    assert run(**given) == 0
    for name, value in given.items():
        if value != evil:
            assert run(**{**given, name: evil}) == 1
    first = {one.name for one in JOBS if one.workflow == job.workflow and "needs" not in one.content}
    assert first == {"inputs"}
    assert job.content["permissions"] == {}


@pytest.mark.parametrize("job", [job for job in JOBS if "make promote" in " ".join(job.commands)], ids=str)
def test_a_promotion_runs_the_commit_of_the_release(job: Job) -> None:
    steps = [step.get("uses", step.get("run", "")).partition("@")[0] for step in job.steps]
    assert steps[:3] == [CHECKOUT, 'make check-out STACK="$FROM"', AWS]


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_role_with_write_access_requires_the_environment_with_approval(job: Job) -> None:
    """Jobs in an environment `*-read` only read; dry runs use no other environment."""
    verbs = {text.split()[1] for text in job.commands}
    environment = str(job.content.get("environment", ""))
    if environment.endswith("-read"):
        assert verbs <= {"check-out", "promote", "rollback", "drift"}
        assert all("DRY_RUN" in text for text in job.commands if " promote " in f" {text} ")
    if job.uses(AWS) and verbs & {"deploy", "sign"}:
        assert environment in ("${{ inputs.stack || 'dev' }}", "${{ inputs.stack }}", "${{ inputs.to }}")
    if any("DRY_RUN" in text for text in job.commands):
        assert environment.endswith("-read")


def test_zizmor_reports_no_problems_and_is_part_of_make_lint(tmp_path: Path) -> None:
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    [options] = re.findall(r"^\t@.*/zizmor (--quiet --offline .*) \.github/workflows$", makefile, re.MULTILINE)

    def found(folder: Path) -> int:
        zizmor = Path(sys.executable).with_name("zizmor")
        return subprocess.run([zizmor, *options.split(), folder], check=False, capture_output=True).returncode

    assert found(FOLDER) == 0
    evil = shutil.copytree(FOLDER, tmp_path / "workflows") / "rollback.yaml"
    evil.write_text(evil.read_text().replace('make rollback STACK="$STACK"', 'make rollback STACK="${{ inputs.to }}"'))
    assert found(evil.parent) != 0


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_every_job_has_a_timeout_and_a_concurrency_group(job: Job) -> None:
    assert job.content["timeout-minutes"] <= 90
    concurrency = job.content.get("concurrency") or job.around["concurrency"]
    assert concurrency["group"]
    if job.uses(AWS):
        assert concurrency["cancel-in-progress"] is False


@pytest.mark.parametrize(
    ("job", "step"), STEPS, ids=lambda value: value.get("run") if isinstance(value, dict) else str(value)
)
def test_a_step_is_one_make_command_with_variables_of_the_target(job: Job, step: dict[str, Any]) -> None:
    assert re.fullmatch(rf"make [a-z-]+( {ARGUMENT})*", step["run"])
    assert mistakes(step["run"]) == []
    assert set(re.findall(r"\$([A-Z_]+)", step["run"])) <= {*job.environment(step), *OF_THE_RUNNER}


def test_the_release_workflow_follows_the_branch_of_the_first_stack() -> None:
    first, branch = next(iter(branches().items()))
    release = FOLDER / "release.yaml"
    assert workflow(release)["on"]["push"]["branches"] == [branch]
    assert set(re.findall(r"(?:stack \|\||STACK [!=]=|'dev'\) ==) '(\w+)'", release.read_text())) == {first}


def test_images_are_signed_by_the_workflow_that_the_other_stacks_trust() -> None:
    (signing,) = {job.workflow for job in JOBS for step in job.steps if step.get("run", "").startswith("make sign")}
    branch = next(iter(branches().values()))
    repository = "https://github.com/example/airflow-on-kubernetes"
    identity = f"{repository}/.github/workflows/{signing}.yaml@refs/heads/{branch}"
    for settings in chain().values():
        if settings.release and settings.release.signed_by:
            assert re.search(settings.release.signed_by, identity)


@pytest.mark.parametrize("job", [job for job in JOBS if any("make deploy" in text for text in job.commands)], ids=str)
def test_a_stack_is_deployed_from_the_commit_of_its_release(job: Job) -> None:
    first = next(iter(branches()))
    steps = [step for step in job.steps if step.get("run", "").startswith("make check-out ")]
    [step] = steps
    assert job.steps.index(step) < [one.get("uses", "").startswith(f"{AWS}@") for one in job.steps].index(True)
    # A release of the first stack is built from the workflow's own commit.
    assert step.get("if") == (f"env.STACK != '{first}'" if job.workflow == "release" else None)
    assert job.workflow == "release" or 'CHANGE="$RUNNER_TEMP/change.json"' in step["run"]


@pytest.mark.parametrize(
    "job", [job for job in JOBS if any("make deploy " in step.get("run", "") for step in job.steps)], ids=str
)
def test_a_deployment_is_tested_before_it_is_recorded(job: Job) -> None:
    commands = [text.split()[1] for text in job.commands]
    assert commands[-3:] == ["deploy", "smoke", "release"]


def test_the_workflow_of_previews_signs_no_images_and_pushes_to_repositories_of_previews() -> None:
    commands = [text for job in JOBS if job.workflow == "preview" for text in job.commands]
    assert [text for text in commands if "make images" in text] == ["make images STACK=dev PREVIEW=1"]
    assert not any("make sign" in text for text in commands)
