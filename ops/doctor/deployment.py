"""Checks of what is deployed: settings, chart, DAG repository, bootstrap, images, release."""

from __future__ import annotations

import os
import subprocess

from infra.airflow import chart
from infra.errors import OperationError
from infra.settings import DagSettings, Settings
from infra.settings.placeholders import placeholders
from ops.doctor.outcome import Outcome, failed, passed, unknown
from ops.releases import deploy_checks
from ops.releases.clone import Clone
from ops.releases.images import REGISTRIES
from ops.stacks.aws_stack import AwsStack
from ops.stacks.missing_images import check_images

GIT_SECONDS = 30
NO_MATCH = 2  # exit code of `git ls-remote --exit-code`


def replaced_placeholders(stack: str, settings: Settings) -> Outcome:
    """Check that the settings contain no placeholders."""
    found = list(placeholders(settings))
    if found:
        return failed(f"Pulumi.{stack}.yaml contains placeholders: {'; '.join(found)}")
    return passed(f"Pulumi.{stack}.yaml contains none")


def dag_repository(stack: str, settings: Settings) -> Outcome:
    """Check that the DAG repository can be read and has the stack's branch."""
    dags, before = settings.dags, settings.release and settings.release.after
    creation = f"create it with `make promote FROM={before} TO={stack}`" if before else "push it"
    command = ["git", "ls-remote", "--exit-code", "--heads", dags.repository, f"refs/heads/{dags.branch}"]
    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=GIT_SECONDS, env=environment
        )
    except FileNotFoundError:
        return unknown("git is not on PATH")
    except subprocess.TimeoutExpired:
        return unknown(f"{dags.repository} does not answer within {GIT_SECONDS} s")
    return judge_repository(dags, creation, done.returncode, done.stderr)


def judge_repository(dags: DagSettings, creation: str, code: int, output: str) -> Outcome:
    """Judge the answer of `git ls-remote`; `creation` is how the branch comes into being."""
    if code == 0:
        return passed(f"{dags.branch} of {dags.repository}")
    if code == NO_MATCH:
        return failed(f"{dags.repository} has no branch {dags.branch}: {creation}, or correct airflow:dags.branch")
    reason = " ".join(output.split())
    if dags.credentials != "none":
        return unknown(f"this machine cannot read {dags.repository} ({reason}); the cluster uses its own key")
    if "Could not resolve host" in output:
        return unknown(f"{dags.repository} cannot be reached ({reason})")
    return failed(
        f"{dags.repository} cannot be read ({reason}): correct airflow:dags.repository, or set credentials if it is "
        "private"
    )


def chart_available() -> Outcome:
    """Check that the chart is in the cache or can be downloaded."""
    return passed(f"{chart.NAME} {chart.VERSION} in {chart.archive()}")


def bootstrapped(stack: AwsStack) -> Outcome:
    """Check that `make bootstrap` was run.

    Raises:
        OperationError: The settings contain placeholders, or the credentials do not work.
    """
    backend = stack.backend
    try:
        stack.check_bootstrapped()
    except OperationError as error:
        return failed(str(error))
    return passed(f"s3://{backend.bucket} exists, and the key is in Pulumi.{stack.name}.yaml")


def release(stack: AwsStack) -> Outcome:
    """Check that a deployment from this clone is allowed, and that its images are in the registry."""
    try:
        found = deploy_checks.checked_release(Clone(), stack.name, stack.settings, REGISTRIES)
        check_images(stack, found)
    except OperationError as error:
        return failed(str(error))
    return passed(f"{found.short} with its images" if found else "the images of this working tree")
