"""What every workflow has to obey, and that the workflows know the stacks as the settings have them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings import StackSettings, load
from infra.settings.loading import neighbours
from ops.pulumi.backend import backend_of
from tests.makefile import mistakes

from .parsed import FILES, FOLDER, Job, jobs, workflow

JOBS = list(jobs())
# Of jobs that have nothing else to do than to look at what a person typed.
INPUTS = [job for job in JOBS if job.name == "inputs"]
STEPS = [(job, step) for job in JOBS for step in job.steps if "run" in step and job not in INPUTS]
CHECKOUT = "actions/checkout"
AWS = "aws-actions/configure-aws-credentials"
ARGUMENT = r'[A-Z_]+=(?:[a-z0-9]+|"(?:[a-z]+/)?\$[A-Z_]+(?:/[a-z.]+)?")'
# What GitHub's runner sets for each step.
OF_THE_RUNNER = {"RUNNER_TEMP"}
PUBLISH = re.compile(r'make publish OPERATION=[a-z]+( (STACK|COMMIT)="\$[A-Z]+")? CHANGE="\$RUNNER_TEMP/change.json"')


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
def test_no_jobs_token_may_write_to_the_repository(job: Job) -> None:
    assert job.content["permissions"].get("contents", "read") == "read"


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_no_credentials_are_left_on_disk_by_a_checkout(job: Job) -> None:
    for step in job.steps:
        if step.get("uses", "").startswith(f"{CHECKOUT}@"):
            assert step["with"].get("persist-credentials") is False
            assert not {"ssh-key", "token"} & step["with"].keys()


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_the_key_that_moves_branches_is_alone_with_git(job: Job) -> None:
    """In a job of one command, whose program has no dependencies, and in an environment that no other job has."""
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


def test_the_program_that_gets_the_key_is_started_by_nothing_but_a_plain_python() -> None:
    makefile = (FOLDER.parents[1] / "Makefile").read_text()
    for target in ("publish", "check-out"):
        found = re.search(rf"^{target}:(.*)\n\t@(.*)$", makefile, re.MULTILINE)
        assert found
        prerequisites, recipe = found[1].partition("##")[0], found[2]
        assert prerequisites.strip() == ""
        assert recipe.startswith("$(handover) ")
    assert "\noverride handover := $(named_python) -I ops/releases/handover.py\n" in makefile


@pytest.mark.parametrize("file", FILES, ids=file_name)
def test_no_text_of_others_is_pasted_into_a_command(file: Path) -> None:
    for name, job in workflow(file)["jobs"].items():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), name


@pytest.mark.parametrize("job", INPUTS, ids=str)
@pytest.mark.parametrize("evil", ["$(touch x)", "`id`", "0123abc; id", "--all", "0123abc\nx", "0" * 41, "prod"])
def test_what_a_person_types_is_looked_at_before_any_job_has_a_role(job: Job, evil: str) -> None:
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
def test_a_promotion_runs_the_releases_own_commit(job: Job) -> None:
    steps = [step.get("uses", step.get("run", "")).partition("@")[0] for step in job.steps]
    assert steps[:3] == [CHECKOUT, 'make check-out STACK="$FROM"', AWS]


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_a_role_that_may_change_something_is_never_given_without_the_environment_that_asks(job: Job) -> None:
    """What has an environment `*-read` only looks; a dry run has no other."""
    verbs = {text.split()[1] for text in job.commands}
    environment = str(job.content.get("environment", ""))
    if environment.endswith("-read"):
        assert verbs <= {"check-out", "promote", "rollback", "drift"}
        assert all("DRY_RUN" in text for text in job.commands if " promote " in f" {text} ")
    if job.uses(AWS) and verbs & {"deploy", "sign"}:
        assert environment in ("${{ inputs.stack || 'dev' }}", "${{ inputs.stack }}", "${{ inputs.to }}")
    if any("DRY_RUN" in text for text in job.commands):
        assert environment.endswith("-read")


def test_zizmor_finds_nothing_and_is_part_of_the_lint(tmp_path: Path) -> None:
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
    assert set(re.findall(r"\$([A-Z_]+)", step["run"])) <= {*job.environment(step), *OF_THE_RUNNER}


def test_the_workflow_of_releases_follows_the_branch_of_the_first_stack() -> None:
    first, branch = next(iter(branches().items()))
    release = FOLDER / "release.yaml"
    assert workflow(release)["on"]["push"]["branches"] == [branch]
    assert set(re.findall(r"(?:stack \|\||STACK [!=]=|'dev'\) ==) '(\w+)'", release.read_text())) == {first}


def test_images_are_signed_by_the_workflow_whose_signature_the_other_stacks_ask_for() -> None:
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
    # The first stack's release is what lies here.
    assert step.get("if") == (f"env.STACK != '{first}'" if job.workflow == "release" else None)
    assert job.workflow == "release" or 'CHANGE="$RUNNER_TEMP/change.json"' in step["run"]


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
    commands = [text.split()[1] for text in job.commands]
    assert commands[-3:] == ["deploy", "smoke", "release"]


def documented_policies() -> list[dict[str, Any]]:
    page = (FOLDER.parents[1] / "docs" / "releases.md").read_text()
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


def test_the_documented_role_that_only_looks_can_read_no_secret_and_no_object_but_the_state() -> None:
    _trust, reading, _preview = documented_policies()
    secrets, objects = reading["Statement"]
    assert {statement["Effect"] for statement in reading["Statement"]} == {"Deny"}
    assert secrets["Resource"] == "*"
    assert {"secretsmanager:GetSecretValue", "ssm:GetParameter*", "kms:Decrypt", "sts:AssumeRole"} <= set(
        secrets["Action"]
    )
    assert objects["Action"] == "s3:GetObject*"
    bucket = backend_of("prod", "123456789012", "us-east-1").bucket
    assert objects["NotResource"] == f"arn:aws:s3:::{bucket}/.pulumi/stacks/airflow/prod.json"


def test_the_documented_role_of_previews_writes_to_no_repository_whose_images_are_signed() -> None:
    preview = documented_policies()[-1]
    writes = [one for one in preview["Statement"] if "ecr:PutImage" in one["Action"]]
    assert [one["Resource"].partition("repository/")[2] for one in writes] == ["airflow-dev/previews/*"]
    (job,) = [job for job in JOBS if any("make images" in text for text in job.commands) if job.workflow == "preview"]
    assert "make images STACK=dev PREVIEW=1" in job.commands
    assert not any("make sign" in text for text in job.commands)
