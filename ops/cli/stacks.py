"""The commands that deploy, inspect and delete stacks."""

import getpass
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from infra.documents import REPOSITORY, read_text
from infra.errors import OperationError
from infra.settings import load
from infra.settings.placeholders import placeholders
from ops.airflow import dags
from ops.airflow import smoke as smoke_test
from ops.airflow import status as stack_status
from ops.airflow.ui import Login, airflow_forwarded, mlflow_forwarded
from ops.cli.options import Stack, Yes, completed_stacks
from ops.console import echo, new_console
from ops.doctor import doctor as doctors
from ops.drift import drift as drifts
from ops.drift import drift_issue
from ops.drift.redacted_state import redacted
from ops.kubernetes.watch import Watch, Watcher
from ops.paths import user_path
from ops.previews.base import check_none_left
from ops.pulumi import new_stack
from ops.pulumi.deployment import Deployment
from ops.releases import deploy_checks, workflows
from ops.releases.chain import dag_settings, promotion_chain
from ops.releases.clone import Clone
from ops.releases.first_deployment import next_commands
from ops.releases.images import REGISTRIES
from ops.roles import github_roles as roles
from ops.stacks.aws_stack import AwsStack
from ops.stacks.missing_images import check_images
from ops.stacks.platform_stack import PlatformStack
from ops.stacks.resolve import resolve, resolve_any, resolve_aws, resolve_running

UI_PORT, MLFLOW_UI_PORT = 8080, 5000
PROD = "prod"  # protected even if its settings say otherwise
DRIFTED = 2  # exit code; a failure exits with 1

console = new_console(soft_wrap=True)


def stack(
    name: Annotated[str, typer.Argument(envvar="NAME", help="The name of the new stack, such as qa.")],
    like: Annotated[
        str, typer.Option(envvar="LIKE", autocompletion=completed_stacks, help="The stack to copy.")
    ] = "dev",
) -> None:
    """Write the settings of a new stack, and add it to the GitHub workflows."""
    files = [*new_stack.write_stack(name, like), *workflows.write()]
    for file in files:
        echo(f"wrote {file.relative_to(REPOSITORY)}")
    echo(f"review these files, then run `make plan STACK={name}`")
    for placeholder in placeholders(load(name)):
        echo(f"replace {placeholder}")


def bootstrap(stack: Stack) -> None:
    """Create Pulumi's state, the key of its secrets, and the image repositories."""
    resolved = resolve_aws(stack, echo)
    resolved.bootstrap()
    first = promotion_chain(stack)[0] if resolved.settings.release else stack
    commands = next_commands(Clone(), stack, resolved.settings, dag_settings(first, load(first)).branch)
    echo(f"account {resolved.account.id} is ready for {stack}, whose encrypted key is in Pulumi.{stack}.yaml; now run:")
    for command in commands:
        echo(f"  {command}")


def github_roles(
    stack: Stack,
    repository: Annotated[
        str | None,
        typer.Option(envvar="REPOSITORY", metavar="OWNER/NAME", help="The GitHub repository, if not that of the DAGs."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", envvar="REMOVE", help="Delete the roles and policies.")] = False,
) -> None:
    """Create the roles that the GitHub workflows assume.

    Each role trusts the jobs of one GitHub environment. The command prints what to enter in GitHub and the stack file.
    """
    resolved = resolve_aws(stack, echo)
    resolved.check_bootstrapped()
    if remove:
        roles.remove(stack, resolved.settings, resolved.account, echo)
    else:
        found = roles.repository_of(stack, resolved.settings, repository)
        roles.create(stack, resolved.settings, resolved.account, found, echo)


def doctor(stack: Stack) -> None:
    """Check everything that a deployment needs.

    Exit codes: 0 if no check failed, else 1.
    """
    if not doctors.check(resolve_aws(stack, echo), console):
        raise typer.Exit(1)


def preview(stack: Stack) -> None:
    """Preview a deployment."""
    resolved = resolve(stack, echo)
    release = deploy_checks.previewed_release(Clone(), stack, resolved.settings, REGISTRIES)
    with deploy_checks.with_release(resolved.deployment, release) as deployment:
        point_out_missing_cluster(resolved)
        deployment.run("preview", "--diff")


def deploy(
    stack: Stack,
    yes: Yes = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", envvar="REFRESH", help="Undo what was changed outside Pulumi.")
    ] = False,
    force: Annotated[
        str | None,
        typer.Option(envvar="FORCE", metavar="REASON", help="Skip the checks of releases; the reason is recorded."),
    ] = None,
) -> None:
    """Deploy a stack."""
    resolved = resolve(stack, echo)
    if isinstance(resolved, AwsStack):
        doctors.check_before_deployment(resolved, console)
    release = deploy_checks.checked_release(Clone(), stack, resolved.settings, REGISTRIES, force)
    with deploy_checks.with_release(resolved.deployment, release) as deployment:
        check_images(resolved, release)
        resolved.prepare(deployment)
        point_out_missing_cluster(resolved)
        preview_and_deploy(deployment, watcher(resolved), yes=yes, refresh=refresh)


def smoke(stack: Stack) -> None:
    """Check a deployed stack."""
    smoke_test.smoke(resolve_running(stack, echo), echo)


def status(stack: Stack) -> None:
    """Show a stack's pods and their problems, broken DAG files, and the running commit."""
    stack_status.show(resolve_running(stack, echo), echo)


def ui(stack: Stack) -> None:
    """Port-forward the UIs of Airflow and MLflow until Ctrl-C."""
    resolved = resolve_running(stack, echo)
    with ExitStack() as forwards:
        show_login("Airflow", forwards.enter_context(airflow_forwarded(resolved, UI_PORT)))
        try:
            show_login("MLflow", forwards.enter_context(mlflow_forwarded(resolved, MLFLOW_UI_PORT)))
        except OperationError as error:
            echo(str(error))
        echo("press Ctrl-C to stop")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            echo("closed")


def drift(
    stack: Stack,
    issue: Annotated[
        bool, typer.Option("--issue", envvar="ISSUE", help="Keep a GitHub issue open while the stack has drift.")
    ] = False,
    without_secrets: Annotated[
        bool,
        typer.Option(
            "--without-secrets",
            envvar="WITHOUT_SECRETS",
            help="Do not compare secrets; needs no permission to read them.",
        ),
    ] = False,
) -> None:
    """Compare what is deployed with Pulumi's state.

    Exit codes: 0 without drift, 2 with drift, 1 if the command failed.
    """
    if without_secrets:
        with redacted(resolve_aws(stack, echo)) as (deployment, left_out):
            found = drifts.known(drifts.drifted(deployment.refresh_report(left_out)))
        drifts.show(console, stack, found, len(left_out))
    else:
        found = drifts.drifted(resolve(stack, echo).deployment.refresh_report())
        drifts.show(console, stack, found)
    if issue:
        drift_issue.keep(stack, found, echo)
    if found:
        raise typer.Exit(DRIFTED)


def destroy(
    stack: Stack,
    yes: Yes = False,
    confirm: Annotated[
        str | None, typer.Option(envvar="CONFIRM", metavar="STACK", help="The stack's name, instead of the prompt.")
    ] = None,
) -> None:
    """Delete a stack and prove that nothing is left."""
    resolved = resolve(stack, echo)
    typed = confirm or ask(stack, unless=yes)
    check_confirmation(stack, typed, protected=resolved.protected, yes=yes)
    check_none_left(resolved)
    resolved.destroy()


def unlock(stack: Stack, yes: Yes = False) -> None:
    """Show who locked a stack, and release the lock of a command that was killed."""
    deployment = resolve_any(stack, echo).deployment
    locks = deployment.locks()
    for lock in locks:
        echo(f"{stack} is locked by {lock}")
    if not locks:
        echo(f"{stack} is not locked")
    elif yes or confirmed("Release the lock? If that command still runs, it damages the state. [y/N] "):
        deployment.run("cancel", "--yes")
    else:
        raise OperationError("the lock was not released: answer y at the prompt, or set YES=1")


def sweep(stack: Stack) -> None:
    """List what is left of a stack in the account or the cluster."""
    resolve(stack, echo).report_leftovers()


def kubeconfig(
    stack: Stack,
    file: Annotated[
        Path | None, typer.Option(parser=user_path, help="The kubeconfig file; by default the one that kubectl uses.")
    ] = None,
) -> None:
    """Add the cluster to the kubeconfig file and select it."""
    resolve(stack, echo).add_to_kubeconfig(file)


def sync(stack: Stack) -> None:
    """Push HEAD to the Git server of a stack on an existing cluster."""
    dags.push(resolve_running(stack, echo), echo)


def dags_key(
    stack: Stack,
    file: Annotated[
        Path | None,
        typer.Option(envvar="KEY", parser=user_path, help="The file of the SSH key or the token; else standard input."),
    ] = None,
    user: Annotated[str, typer.Option(envvar="USER_NAME", help="The token's user.")] = dags.ANY_USER,
) -> None:
    """Store the key of the DAG repository in the cluster."""
    resolved = resolve(stack, echo)
    source = resolved.settings.dags
    if source is None:
        raise OperationError(f"{stack} has its own Git server, which needs no key: see `make sync STACK={stack}`")
    key = read_text(file) if file else read_secret("the key: ")
    dags.put_key(resolved, source, key, user, echo)


def preview_and_deploy(deployment: Deployment, watch: Watcher | None, *, yes: bool, refresh: bool) -> None:
    """Preview the changes, ask for confirmation unless `yes` is set, and deploy the stack."""
    # A resource whose deletion failed may be deleted nevertheless.
    refreshing = ("--refresh",) if refresh or deployment.stopped_half_destroyed() else ()
    if not yes:
        deployment.run("preview", *refreshing)
        if not confirmed("Deploy these changes? [y/N] "):
            raise OperationError("nothing was deployed: answer y at the prompt, or set YES=1")
    deployment.run("up", "--yes", "--skip-preview", *refreshing, watch=watch)


def point_out_missing_cluster(stack: PlatformStack) -> None:
    """Say what Pulumi cannot preview before the first deployment."""
    if not stack.has_cluster:
        echo(
            f"{stack.name} has no cluster yet: previews lack the objects of Airflow's chart, which the first "
            "deployment creates, too"
        )


def watcher(stack: PlatformStack) -> Watcher | None:
    """Return a watcher for the stack's pods.

    It is None if the stack has no cluster that responds: the deployment may create it, or access to it.
    """
    if not responds(stack):
        return None
    return Watch(stack.cluster, stack.namespaces, stack.diagnosis)


def responds(stack: PlatformStack) -> bool:
    """Return whether a stack has a cluster that responds."""
    try:
        if stack.has_cluster:
            stack.cluster.check()
    except OperationError as error:
        echo(f"the pods are not watched, because {error}")
        return False
    return stack.has_cluster


def show_login(name: str, login: Login) -> None:
    """Print the address of a UI and its administrator login."""
    echo(f"{name:<11}{login.url}\nuser       {login.user}\npassword   {login.password}")


def read_secret(prompt: str) -> str:
    """Read a secret from a prompt on a terminal, else from standard input."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise OperationError("standard input is not text: pass the file with the key as KEY=<file>") from error


def ask(stack: str, *, unless: bool) -> str | None:
    """Prompt for the stack's name; return None if `unless` is set or there is no terminal."""
    if unless or not sys.stdin.isatty():
        return None
    return console.input(f"Everything in {stack} will be deleted. Type the stack's name to continue: ").strip()


def confirmed(question: str) -> bool:
    """Ask a question; return whether the answer is yes. Without a terminal it is no."""
    return sys.stdin.isatty() and console.input(question).strip().lower() in ("y", "yes")


def check_confirmation(stack: str, typed: str | None, *, protected: bool, yes: bool) -> None:
    """Require confirmation: `yes` is enough for an unprotected stack, a protected stack needs its name.

    Raises:
        OperationError: The confirmation is missing.
    """
    needs_name = protected or stack == PROD
    if typed == stack or (yes and not needs_name):
        return
    hint = f"CONFIRM={stack}" if needs_name else f"YES=1 or CONFIRM={stack}"
    raise OperationError(f"nothing was destroyed: type {stack} at the prompt, or set {hint}")
