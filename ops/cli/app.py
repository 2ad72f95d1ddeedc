"""The application `ops`: its commands, and how it ends."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from infra.errors import OperationError
from ops import process_environment

THIS_MACHINE = "On this machine, with nothing but Python"
KUBERNETES = "On Kubernetes: any cluster (STACK=local), or one that Pulumi builds on AWS (STACK=dev)"
DAGS = "DAGs"
RELEASES = "Releases, from branch to branch"
PREVIEWS = "Preview environments of branches"
AWS = "On AWS only"
INTERNAL = "For scripts"
# An example value for each required variable, for error messages.
EXAMPLES = {
    "STACK": "dev",
    "NAME": "qa",
    "DAG": "churn",
    "FROM": "dev",
    "TO": "staging",
    "GATE": "tests",
    "AGAINST": "origin/dev",
    "BRANCH": "feature/x",
}


@dataclass(frozen=True)
class Entry:
    """A command whose module is not imported yet.

    Attributes:
        panel: The heading under which it is listed.
        module: The module of `ops.cli` that defines the command as a function.
        summary: What the command does. Must equal the help text in the Makefile.
    """

    panel: str
    module: str
    summary: str


COMMANDS = {
    "up": Entry(THIS_MACHINE, "laptop", "Start Airflow, train the image classifier and serve it"),
    "down": Entry(THIS_MACHINE, "laptop", "Stop what `make up` started; data is kept"),
    "clean": Entry(THIS_MACHINE, "laptop", "Stop what `make up` started and delete its data"),
    "status": Entry(THIS_MACHINE, "laptop", "Show the local processes, or a stack's pods, DAGs and problems"),
    "login": Entry(THIS_MACHINE, "laptop", "Show the addresses and passwords of Airflow and MLflow on this machine"),
    "logs": Entry(THIS_MACHINE, "laptop", "Follow the log of one process"),
    "plan": Entry(KUBERNETES, "plan", "Show offline what a stack creates, costs and allows"),
    "scan": Entry(KUBERNETES, "scan", "Scan what the stacks create with checkov; exit code 1 for a new finding"),
    "images": Entry(KUBERNETES, "images", "Build the images that a stack's cluster lacks and deliver them"),
    "preview": Entry(KUBERNETES, "stacks", "Preview a deployment"),
    "deploy": Entry(KUBERNETES, "stacks", "Deploy a stack"),
    "smoke": Entry(KUBERNETES, "stacks", "Check a deployed stack: health, commit, DAG files, the pod of a task"),
    "ui": Entry(KUBERNETES, "stacks", "Port-forward Airflow's and MLflow's UI and print the logins"),
    "user": Entry(KUBERNETES, "users", "Create, change or delete a user of Airflow"),
    "connection": Entry(KUBERNETES, "connections", "Create, change or delete a connection of Airflow"),
    "destroy": Entry(KUBERNETES, "stacks", "Delete a stack and prove that nothing is left"),
    "upgrade-check": Entry(KUBERNETES, "upgrades", "Show what to upgrade and by when; exit code 1 if support ended"),
    "unlock": Entry(KUBERNETES, "stacks", "Release the lock that a killed command left on a stack"),
    "sync": Entry(KUBERNETES, "stacks", "Push HEAD to the Git server of a stack on an existing cluster"),
    "dag": Entry(DAGS, "dags", "Write a new DAG with its steps, its declaration and its test"),
    "run": Entry(DAGS, "dags", "Run a DAG and follow it"),
    "promote": Entry(RELEASES, "releases", "Promote the release of a stack to the next stack"),
    "rollback": Entry(RELEASES, "releases", "Roll a stack back to an earlier release"),
    "sign": Entry(RELEASES, "images", "Sign the images that `make images` built with BUILT, in a GitHub workflow"),
    "release": Entry(RELEASES, "releases", "Record what a stack runs, after `make deploy` and `make smoke`"),
    "releases": Entry(RELEASES, "releases", "List the releases of a stack, newest first"),
    "gates": Entry(RELEASES, "releases", "Show which gates the next release of a stack has passed"),
    "gate": Entry(RELEASES, "releases", "Pass one gate and record it"),
    "drift": Entry(RELEASES, "stacks", "Show what was changed outside Pulumi; exit code 2 if something was"),
    "plan-comment": Entry(RELEASES, "plan", "Write what a change does to each stack and its cost"),
    "preview-env": Entry(PREVIEWS, "previews", "Give a branch its own Airflow in a stack's cluster"),
    "preview-envs": Entry(PREVIEWS, "previews", "List the preview environments of a stack"),
    "preview-env-down": Entry(PREVIEWS, "previews", "Remove the preview environment of a branch"),
    "preview-env-gc": Entry(PREVIEWS, "previews", "Remove the expired preview environments"),
    "stack": Entry(AWS, "stacks", "Write the settings of a new stack"),
    "doctor": Entry(AWS, "stacks", "Check everything that a deployment needs, before it takes half an hour"),
    "bootstrap": Entry(AWS, "stacks", "Create Pulumi's state, the key of its secrets, and the image repositories"),
    "github-roles": Entry(AWS, "stacks", "Create the roles that the GitHub workflows assume, with narrow permissions"),
    "dags-key": Entry(AWS, "stacks", "Store the key of the DAG repository in the cluster"),
    "kubeconfig": Entry(AWS, "stacks", "Add the cluster to the kubeconfig file"),
    "sweep": Entry(INTERNAL, "stacks", "List what is left of a stack in the account or the cluster"),
    "image-names": Entry(INTERNAL, "images", "Print the full name of each image of a stack"),
    "roll-out": Entry(INTERNAL, "laptop", "Serve a version of a model on this machine; a DAG's task runs it"),
}


class Command(TyperCommand):
    """A command that hides its variables from the programs it starts."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        for name in process_environment.PARAMETERS:
            os.environ.pop(name, None)
        with exit_on_error():
            return super().invoke(ctx)


class Commands(TyperGroup):
    """The command group. Imports only the module of the command that runs."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """Return the command names in help order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Return a command stub for the help listing."""
        entry = COMMANDS.get(cmd_name)
        return entry and TyperCommand(cmd_name, short_help=entry.summary, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Load the command that is run."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, loaded(str(name)), rest


def loaded(name: str) -> Any:
    """Return a command with its arguments and options."""
    entry = COMMANDS[name]
    function = getattr(import_module(f"ops.cli.{entry.module}"), name.replace("-", "_"))
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    details = (function.__doc__ or "").partition("\n\n")[2]
    application.command(name, cls=Command, help="\n\n".join(filter(None, (entry.summary + ".", details))))(function)
    return typer.main.get_command(application)


application = typer.Typer(cls=Commands, pretty_exceptions_enable=False)


@application.callback()
def ops() -> None:
    """Deploy and run Airflow for machine learning: on this machine, on a Kubernetes cluster, or on AWS."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(100_000, 50, 100)  # otherwise, collections take a sixth of the time of imports
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = typer.main.get_command(application).main(arguments, prog_name="ops", standalone_mode=False)
    except typer.TyperException as error:
        sys.exit(f"error: {sentence(error)}")
    if code is not None:
        sys.exit(code)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the program with one sentence and exit code 1 if it fails or is interrupted."""
    try:
        yield
    except OperationError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to continue")


def sentence(error: typer.TyperException) -> str:
    """Return what is wrong with the arguments of a command and what to do."""
    command = error.ctx.command if isinstance(error, typer.BadParameter) and error.ctx else None
    if not isinstance(error, typer.BadParameter) or command is None:
        return f"{error.format_message().rstrip('.')}: see `ops --help`"
    if error.message or error.param is None:
        return f"{error.format_message().rstrip('.')}: see `ops {command.name} --help`"
    # Only a missing value has no message.
    example = " ".join(f"{each.envvar}={EXAMPLES[str(each.envvar)]}" for each in command.params if each.required)
    return f"{error.param.envvar} is missing: run `make {command.name} {example}`"
