"""The commands behind `make stack`, `bootstrap`, `preview`, `deploy`, `destroy`, `status`, `ui` and the like."""

import argparse
import getpass
import json
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from infra.command_line import ending_in_a_sentence, subcommands
from infra.console import new_console
from infra.documents import read_text
from infra.errors import OperationError
from infra.operations import (
    airflow,
    dags,
    destroy,
    drift,
    drift_issue,
    existing_cluster_destroy,
    kubeconfig,
    model_registry,
    new_stack,
    smoke,
    status,
)
from infra.operations.account import account_of
from infra.operations.airflow import Login
from infra.operations.aws_deployment import AwsDeployment
from infra.operations.backend import backend_of
from infra.operations.bootstrap import bootstrap
from infra.operations.cluster import Cluster
from infra.operations.deployment import Watcher
from infra.operations.existing_cluster_deployment import ExistingClusterDeployment
from infra.operations.installation import installation_of, on_aws, on_existing_cluster
from infra.operations.redacted_state import redacted
from infra.operations.stack_images import check_images
from infra.operations.watch import Watch
from infra.paths import user_path
from infra.preview.guard import check_none_left
from infra.releases import guard
from infra.releases.clone import Clone
from infra.releases.images import REGISTRIES
from infra.settings import ExistingClusterSettings, load, load_aws
from infra.settings.loading import REPOSITORY

UI_PORT, MLFLOW_UI_PORT = 8080, 5000
DRIFTED = 2  # the exit code; that of a failure is 1

console = new_console(soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.operations", description=__doc__)
    helps = {
        "stack": "write the settings of a new stack after those of another",
        "bootstrap": "make the bucket of Pulumi's state and the key of its secrets",
        "preview": "show what a deployment would change",
        "deploy": "bring the account or the cluster to what the program says",
        "drift": "show what was changed behind Pulumi's back: exit code 2 where something was, 0 where nothing was",
        "destroy": "delete the stack, and prove that nothing of it is left",
        "sweep": "list what is left of the stack in the account or the cluster",
        "kubeconfig": "put the cluster's access into the kubeconfig file",
        "status": "show the pods, what ails them, and the commit of the DAGs that runs",
        "smoke": "see that the stack works: its health, the commit that runs, its DAG files, the pod of a task",
        "ui": "forward the user interfaces of Airflow and MLflow, and show the logins",
        "sync": "push this clone's HEAD to the stack's Git server",
        "dags-key": "keep the key of the DAGs' repository in the cluster, from standard input or a file",
    }
    parsers = subcommands(parser, helps)
    for command in parsers.values():
        command.add_argument("stack", help="the stack, such as dev")
    parsers["stack"].add_argument("--like", default="dev", help="the stack to copy (default: %(default)s)")
    for name in ("deploy", "destroy"):
        parsers[name].add_argument("--yes", action="store_true", help="do not ask")
    deploy_parser, destroy_parser, key_parser = (parsers[name] for name in ("deploy", "destroy", "dags-key"))
    deploy_parser.add_argument("--refresh", action="store_true", help="undo what was changed behind Pulumi's back")
    deploy_parser.add_argument("--force", metavar="WHY", help="deploy past the checks of releases; it is recorded")
    text = "compare nothing that is secret, and need no right to read it"
    parsers["drift"].add_argument("--without-secrets", action="store_true", help=text)
    parsers["drift"].add_argument("--issue", action="store_true", help="keep an issue on GitHub as long as it drifts")
    destroy_parser.add_argument("--confirm", metavar="STACK", help="the stack's name once more, instead of typing it")
    default = kubeconfig.kubeconfig_file()
    parsers["kubeconfig"].add_argument("--file", type=user_path, default=default, help="default: %(default)s")
    key_parser.add_argument("--file", type=user_path, help="the file of the SSH key or the token")
    key_parser.add_argument("--user", default=dags.ANY_USER, help="the token's user (default: %(default)s)")
    with ending_in_a_sentence():
        run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:  # noqa: PLR0912 - one for each command
    """Run one command.

    Raises:
        OperationError: It failed.
        SettingsError: The stack's settings are wrong.
        ContextError: The cluster at hand is none that the stack's settings name.
    """
    stack = arguments.stack
    match arguments.command:
        case "stack":
            file = new_stack.write_stack(stack, arguments.like)
            say(f"wrote {file.relative_to(REPOSITORY)}: look it through, then `make plan STACK={stack}`")
        case "bootstrap":
            account = account_of(stack, load_aws(stack))
            bootstrap(account, backend_of(stack, account.id, account.region), say)
            say(f"account {account.id} is ready for `make deploy STACK={stack}`")
        case "preview":
            release = guard.previewed(Clone(), stack, load(stack), REGISTRIES)
            with guard.carrying(deployment_of(stack), release) as deployment:
                deployment.run("preview", "--diff")
        case "deploy":
            release = guard.admitted(Clone(), stack, load(stack), REGISTRIES, arguments.force)
            with guard.carrying(deployment_of(stack), release) as deployment:
                deploy(deployment, yes=arguments.yes, refresh=arguments.refresh)
        case "drift":
            show_drift(stack, issue=arguments.issue, without_secrets=arguments.without_secrets)
        case "destroy":
            destroy_stack(stack, arguments)
        case "sweep":
            sweep_stack(stack)
        case "kubeconfig":
            write_kubeconfig(stack, arguments.file)
        case "status":
            status.show(installation_of(stack, say), say)
        case "smoke":
            smoke.smoke(stack, say)
        case "ui":
            show_ui(stack)
        case "sync":
            dags.push(installation_of(stack, say), say)
        case "dags-key":
            put_dags_key(stack, arguments.file, arguments.user)


def deployment_of(stack: str) -> AwsDeployment | ExistingClusterDeployment:
    """Return the stack as Pulumi works on it."""
    settings = load(stack)
    if isinstance(settings, ExistingClusterSettings):
        return ExistingClusterDeployment.of(stack, settings, say)
    return AwsDeployment.of(stack, say)


def deploy(deployment: AwsDeployment | ExistingClusterDeployment, *, yes: bool, refresh: bool) -> None:
    """Deploy the stack, after somebody has seen what changes."""
    check_images(deployment, say)
    refreshing = ("--refresh",) if refresh else ()
    if not yes:
        deployment.run("preview", *refreshing)
        if not sys.stdin.isatty() or console.input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            raise OperationError("nothing was deployed: answer y when asked, or give YES=1")
    deployment.run("up", "--yes", "--skip-preview", *refreshing, watch=watcher(deployment))


def watcher(deployment: AwsDeployment | ExistingClusterDeployment) -> Watcher | None:
    """Return what looks at the stack's pods meanwhile; None where there is no cluster yet."""
    if isinstance(deployment, ExistingClusterDeployment):
        installation = on_existing_cluster(deployment.stack, deployment.settings, deployment.cluster)
    else:
        outputs = deployment.outputs()
        if "kubeconfig" not in outputs:
            return None
        cluster = Cluster.of_access(json.loads(outputs["kubeconfig"]))
        installation = on_aws(deployment.stack, deployment.settings, cluster)
    return Watch(installation.cluster, installation.namespaces, installation.diagnosis)


def show_drift(stack: str, *, issue: bool, without_secrets: bool) -> None:
    """Show what was changed behind Pulumi's back, and say by the exit code whether something was."""
    if without_secrets:
        with redacted(stack, say) as (deployment, left_out):
            found = drift.known(drift.drifted(deployment.refresh_report(left_out)))
        drift.show(console, stack, found, len(left_out))
    else:
        found = drift.drifted(deployment_of(stack).refresh_report())
        drift.show(console, stack, found)
    if issue:
        drift_issue.keep(stack, found, say)
    if found:
        sys.exit(DRIFTED)


def destroy_stack(stack: str, arguments: argparse.Namespace) -> None:
    """Destroy a stack, if that is meant."""
    settings = load(stack)
    protected = not isinstance(settings, ExistingClusterSettings) and settings.protect
    typed = arguments.confirm or ask(stack, unless=arguments.yes)
    destroy.check_confirmation(stack, typed, protected=protected, yes=arguments.yes)
    deployment = deployment_of(stack)
    check_none_left(deployment)
    if isinstance(deployment, ExistingClusterDeployment):
        existing_cluster_destroy.destroy(deployment, say)
    else:
        destroy.destroy(deployment, say)


def sweep_stack(stack: str) -> None:
    """List what is left of a stack."""
    settings = load(stack)
    if isinstance(settings, ExistingClusterSettings):
        installation = installation_of(stack, say)
        existing_cluster_destroy.report(stack, installation.cluster, (), installation.namespaces, say)
    else:
        destroy.report(account_of(stack, settings), stack, say)


def write_kubeconfig(stack: str, file: Path) -> None:
    """Put the cluster's access into a kubeconfig file."""
    if isinstance(load(stack), ExistingClusterSettings):
        raise OperationError(
            f"kubectl speaks to the cluster of {stack} already: choose it by `kubectl config use-context`"
        )
    access = json.loads(AwsDeployment.of(stack, say).outputs()["kubeconfig"])
    kubeconfig.write(file, access)
    say(f"{file}: kubectl now speaks to {access['current-context']}")


def show_ui(stack: str) -> None:
    """Keep the user interfaces of Airflow and MLflow open until Ctrl-C."""
    installation = installation_of(stack, say)
    with ExitStack() as ways:
        show_login("Airflow", ways.enter_context(airflow.reached(installation, UI_PORT)))
        try:
            show_login("MLflow", ways.enter_context(model_registry.reached(installation, MLFLOW_UI_PORT)))
        except OperationError as error:
            say(str(error))
        say("until Ctrl-C")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("closed")


def show_login(name: str, login: Login) -> None:
    """Print where a user interface is, and its administrator's login."""
    say(f"{name:<11}{login.url}\nuser       {login.user}\npassword   {login.password}")


def put_dags_key(stack: str, file: Path | None, user: str) -> None:
    """Keep the key of the DAGs' repository in the cluster."""
    source = load(stack).dags
    if source is None:
        raise OperationError(f"{stack} has a Git server of its own, which needs no key: see `make sync STACK={stack}`")
    key = read_text(file) if file else read_secret("the key: ")
    dags.put_key(installation_of(stack, say), source, key, user, say)


def read_secret(prompt: str) -> str:
    """Read a secret that somebody types, or that a program or a file gives."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise OperationError("standard input is not text: give the file that holds the key") from error


def ask(stack: str, *, unless: bool) -> str | None:
    """Have the stack's name typed, where there is somebody to type it."""
    if unless or not sys.stdin.isatty():
        return None
    return console.input(f"Everything in {stack} will be deleted. Type its name to go on: ").strip()


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line)


if __name__ == "__main__":
    main()
