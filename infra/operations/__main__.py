"""The commands behind `make stack`, `bootstrap`, `preview`, `deploy`, `destroy` and `kubeconfig`."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from infra.operations import destroy, kubeconfig, new_stack
from infra.operations.account import account_of
from infra.operations.backend import backend_of
from infra.operations.bootstrap import bootstrap
from infra.operations.deployment import Deployment
from infra.operations.errors import OperationError
from infra.settings import SettingsError, load
from infra.settings.loading import REPOSITORY

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.operations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "bootstrap": "make the bucket of Pulumi's state and the key of its secrets",
        "preview": "show what a deployment would change",
        "deploy": "bring the account to what the program says",
        "destroy": "delete the stack, and prove that nothing of it is left",
        "sweep": "list what is left of the stack in the account",
        "kubeconfig": "put the cluster's access into the kubeconfig file",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("stack", help="the stack, such as dev")
        if name in ("deploy", "destroy"):
            command.add_argument("--yes", action="store_true", help="do not ask")
        if name == "destroy":
            command.add_argument("--confirm", metavar="STACK", help="the stack's name once more, instead of typing it")
        if name == "kubeconfig":
            command.add_argument("--file", type=Path, default=kubeconfig.kubeconfig_file(), help="default: %(default)s")
    text = "write the settings of a new stack after those of another"
    stack_parser = commands.add_parser("stack", help=text, description=text)
    stack_parser.add_argument("name", help="the new stack")
    stack_parser.add_argument("--like", default="dev", help="the stack to copy (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (OperationError, SettingsError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to continue")


def run(arguments: argparse.Namespace) -> None:
    """Run one command.

    Raises:
        OperationError: It failed.
        SettingsError: The stack's settings are wrong.
    """
    stack = arguments.name if arguments.command == "stack" else arguments.stack
    match arguments.command:
        case "stack":
            file = new_stack.write_stack(stack, arguments.like)
            say(f"wrote {file.relative_to(REPOSITORY)}: look it through, then `make plan STACK={stack}`")
        case "bootstrap":
            account = account_of(stack, load(stack))
            bootstrap(account, backend_of(stack, account.id, account.region), say)
            say(f"account {account.id} is ready for `make deploy STACK={stack}`")
        case "preview":
            Deployment.of(stack, say).run("preview", "--diff")
        case "deploy":
            Deployment.of(stack, say).run("up", *(["--yes"] if arguments.yes else []))
        case "destroy":
            settings = load(stack)
            typed = arguments.confirm or ask(stack, unless=arguments.yes)
            destroy.check_confirmation(stack, typed, protected=settings.protect, yes=arguments.yes)
            destroy.destroy(Deployment.of(stack, say), say)
        case "sweep":
            destroy.report(account_of(stack, load(stack)), stack, say)
        case "kubeconfig":
            access = json.loads(Deployment.of(stack, say).outputs()["kubeconfig"])
            kubeconfig.write(arguments.file, access)
            say(f"{arguments.file}: kubectl now speaks to {access['current-context']}")


def ask(stack: str, *, unless: bool) -> str | None:
    """Have the stack's name typed, where there is somebody to type it."""
    if unless or not sys.stdin.isatty():
        return None
    return console.input(f"Everything in {stack} will be deleted. Type its name to go on: ").strip()


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line, markup=False)


if __name__ == "__main__":
    main()
