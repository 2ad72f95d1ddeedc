"""The command behind `make images` and `make sign`.

These variables adapt it to a machine and its network:
  BUILDER             docker, podman or buildah; without it the first of them that works
  IMAGE_BUILD_ARGS    further arguments of each build, such as `--network host`; where PyTorch's own package index is
                      out of reach, `--build-arg TORCH_BACKEND=` takes PyPI's build of PyTorch, with its CUDA libraries
  BASE_IMAGE_<NAME>   another base of the image <NAME>, such as a mirror's
  IMAGE_LOAD          the command that brings an image onto the nodes of an existing cluster, where that is neither
                      kind, k3d nor minikube; it gets the image's name here and the name that it is to have there.
                      A variable that the command needs goes into it: `env NAME=value command`
"""

import argparse

from infra.command_line import ending_in_a_sentence, subcommands
from infra.console import new_console
from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.images.build import build, full_names
from infra.images.cluster import ClusterNodes
from infra.images.destinations import Destination
from infra.images.nodes import nodes_of
from infra.images.registries import built_images, registry_of
from infra.images.signing import sign_all
from infra.settings import ExistingClusterSettings, StackSettings, load

console = new_console(soft_wrap=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    helps = {
        "build": "build the images that the stack's cluster lacks, and bring them where it finds them",
        "names": "print the full name of each image",
        "sign": "sign the images of this commit in the stack's registry, in a workflow of GitHub's",
    }
    for command in subcommands(parser, helps).values():
        command.add_argument("stack", help="the stack, such as dev")
    arguments = parser.parse_args()
    with ending_in_a_sentence():
        run(arguments.command, arguments.stack)


def run(command: str, stack: str) -> None:
    """Run one command.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        ImageError: An image cannot be built, delivered or signed.
        OperationError: The images are another stack's, or AWS refuses a request, or cannot be asked.
        SettingsError: The stack's settings are wrong.
    """
    settings, nodes = load(stack), nodes_of(stack)
    if command != "names":
        check_first(stack, settings)
    match command:
        case "build":
            build(destination_of(stack, settings), nodes, say)
        case "names":
            for name in full_names(destination_of(stack, settings), nodes).values():
                say(name)
        case "sign":
            registry = registry_of(stack, settings)
            sign_all(registry, built_images(registry, nodes), say)


def check_first(stack: str, settings: StackSettings) -> None:
    """Refuse a stack whose images come from another one: built again they would be others under the same tags.

    Raises:
        OperationError: It is one.
    """
    if settings.release and (before := settings.release.after):
        raise OperationError(
            f"{stack} runs the images of {before}, and they are not built again: `make promote FROM={before} "
            f"TO={stack}` brings them there"
        )


def destination_of(stack: str, settings: StackSettings) -> Destination:
    """Return where a stack's cluster finds its images.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        OperationError: The account of the credentials at hand is not the stack's.
    """
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return ClusterNodes(checked_context(stack, settings.contexts))
    return registry_of(stack, settings)


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line)


if __name__ == "__main__":
    main()
