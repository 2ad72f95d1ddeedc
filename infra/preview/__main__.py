"""The commands behind `make preview-env`, `preview-envs`, `preview-env-down` and `preview-env-gc`."""

import argparse
from datetime import UTC, datetime

from infra.command_line import ending_in_a_sentence, subcommands
from infra.console import new_console
from infra.preview.base import Base
from infra.preview.collection import collect, list_environments, moment
from infra.preview.environment import bring_up
from infra.preview.names import stack_name
from infra.preview.removal import remove

HOURS = 72

console = new_console(soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.preview", description=__doc__)
    helps = {
        "up": "give a branch an Airflow of its own, or bring it up to date and give it more time",
        "list": "list the preview environments of a stack",
        "down": "remove the preview environment of a branch",
        "gc": "remove the preview environments whose time is over",
    }
    parsers = subcommands(parser, helps)
    for command in parsers.values():
        command.add_argument("base", metavar="stack", help="the stack in whose cluster it is, such as dev")
    for name in ("up", "down"):
        parsers[name].add_argument("branch", help="the branch, such as feature/new-model")
    text = "hours from now on that it has at least (default: %(default)s)"
    parsers["up"].add_argument("--hours", type=float, default=HOURS, help=text)
    with ending_in_a_sentence():
        run(parser.parse_args())


def run(arguments: argparse.Namespace) -> None:
    """Run one command.

    Raises:
        OperationError: It failed.
        SettingsError: The settings of the stack or of an environment are wrong.
        ContextError: The cluster at hand is none that the stack's settings name.
    """
    base = Base.of(arguments.base, say)
    match arguments.command:
        case "up":
            bring_up_and_tell(base, arguments.branch, arguments.hours)
        case "list":
            list_environments(base, datetime.now(UTC), say)
        case "down":
            take_down(base, arguments.branch)
        case "gc":
            collect(base, datetime.now(UTC), say)


def bring_up_and_tell(base: Base, branch: str, hours: float) -> None:
    """Make the environment, and say how to get there and how long it stays."""
    settings = bring_up(base, branch, hours, say)
    again = f"BRANCH={branch} STACK={base.stack}"
    say(
        f"open it    make ui STACK={settings.stack}\n"
        f"objects    {settings.prefix} in the buckets of {base.stack}\n"
        f"until      {moment(settings.expires_at)}; more with `make preview-env {again}`\n"
        f"remove it  make preview-env-down {again}"
    )


def take_down(base: Base, branch: str) -> None:
    """Remove the environment, if there is one."""
    record = base.records.find(stack_name(base.stack, branch))
    if record is None:
        say(f"{base.stack} has no preview environment of {branch}")
    else:
        remove(base, record, say)


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line)


if __name__ == "__main__":
    main()
