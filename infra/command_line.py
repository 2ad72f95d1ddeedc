"""What the commands of several subjects have in common on the command line."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pulumi

from infra.errors import OperationError


def subcommands(parser: argparse.ArgumentParser, helps: Mapping[str, str]) -> dict[str, argparse.ArgumentParser]:
    """Give a parser commands with these helps, one of which has to be named; return the parser of each."""
    commands = parser.add_subparsers(dest="command", required=True)
    return {name: commands.add_parser(name, help=text, description=text) for name, text in helps.items()}


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """End the program with one sentence and exit code 1 where it fails or is interrupted."""
    try:
        yield
    except (OperationError, pulumi.RunError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to continue")
