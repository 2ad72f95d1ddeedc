"""The command behind `make images`.

These variables adapt it to a machine and its network:
  BUILDER             docker, podman or buildah; without it the first of them that works
  IMAGE_BUILD_ARGS    further arguments of each build, such as `--network host`; where PyTorch's own package index is
                      out of reach, `--build-arg TORCH_BACKEND=` takes PyPI's build of PyTorch, with its CUDA libraries
  BASE_IMAGE_<NAME>   another base of the image <NAME>, such as a mirror's
  IMAGE_LOAD          the command that brings an image onto the nodes of an existing cluster, where that is neither
                      kind, k3d nor minikube; it gets the image's name here and the name that it is to have there
"""

import argparse
import sys

import pulumi
from rich.console import Console

from infra.existing_cluster.context import checked_context
from infra.images.build import build, full_names
from infra.images.cluster import ClusterNodes
from infra.images.destinations import Destination
from infra.images.ecr import Ecr
from infra.images.nodes import Nodes
from infra.operations.account import account_of
from infra.operations.errors import OperationError
from infra.settings import ExistingClusterSettings, StackSettings, load

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "build": "build the images that the stack's cluster lacks, and bring them where it finds them",
        "names": "print the full name of each image",
    }
    for name, text in helps.items():
        commands.add_parser(name, help=text, description=text).add_argument("stack", help="the stack, such as dev")
    arguments = parser.parse_args()
    try:
        run(arguments.command, arguments.stack)
    except (OperationError, pulumi.RunError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to continue")


def run(command: str, stack: str) -> None:
    """Run one command.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        ImageError: An image cannot be built or delivered.
        OperationError: AWS refuses a request, or cannot be asked.
        SettingsError: The stack's settings are wrong.
    """
    settings = load(stack)
    nodes, destination = Nodes.of(settings), destination_of(stack, settings)
    if command == "build":
        build(destination, nodes, say)
    else:
        for name in full_names(destination, nodes).values():
            say(name)


def destination_of(stack: str, settings: StackSettings) -> Destination:
    """Return where a stack's cluster finds its images.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        OperationError: The account of the credentials at hand is not the stack's.
    """
    if isinstance(settings, ExistingClusterSettings):
        return ClusterNodes(checked_context(stack, settings.contexts))
    return Ecr(stack, account_of(stack, settings))


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line, markup=False)


if __name__ == "__main__":
    main()
