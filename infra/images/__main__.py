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
from pathlib import Path

from infra.command_line import ending_in_a_sentence, subcommands
from infra.console import new_console
from infra.errors import OperationError
from infra.existing_cluster.context import checked_context
from infra.images.build import build, full_names
from infra.images.built import read_built
from infra.images.cluster import ClusterNodes
from infra.images.ecr import Ecr
from infra.images.errors import ImageError
from infra.images.nodes import nodes_of
from infra.images.oci import OciRegistry
from infra.images.registries import built_images, copy_unchanged, preview_registry_of, registry_of
from infra.images.signing import sign_built
from infra.preview.rules import check_base
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
    parsers = subcommands(parser, helps)
    for command in parsers.values():
        command.add_argument("stack", help="the stack, such as dev")
    text = "the file of what is built in this run, and so may be signed in it"
    for name in ("build", "sign"):
        parsers[name].add_argument("--built", type=Path, metavar="FILE", help=text)
    parsers["build"].add_argument(
        "--preview", action="store_true", help="for the preview environments beside the stack"
    )
    arguments = parser.parse_args()
    with ending_in_a_sentence():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Run one command.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        ImageError: An image cannot be built, delivered or signed.
        OperationError: The images are another stack's, or AWS refuses a request, or cannot be asked.
        SettingsError: The stack's settings are wrong.
    """
    stack = arguments.stack
    settings, nodes = load(stack), nodes_of(stack)
    if arguments.command != "names":
        check_first(stack, settings)
    match arguments.command:
        case "build":
            if arguments.preview:
                check_base(stack, settings)
            destination = destination_of(stack, settings, preview=arguments.preview)
            if arguments.preview and not isinstance(destination, ClusterNodes):
                copy_unchanged(registry_of(stack, settings), destination, nodes, say)
            build(destination, nodes, say, arguments.built)
        case "names":
            for name in full_names(destination_of(stack, settings), nodes).values():
                say(name)
        case "sign":
            if arguments.built is None:
                raise ImageError(
                    "only what this run has built is signed: name the file that `make images BUILT=<file>` wrote"
                )
            registry = registry_of(stack, settings)
            sign_built(registry, read_built(arguments.built), lambda: built_images(registry, nodes), say)


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


def destination_of(stack: str, settings: StackSettings, *, preview: bool = False) -> ClusterNodes | Ecr | OciRegistry:
    """Return where a stack's cluster finds its images, or those of the preview environments in it.

    Raises:
        ContextError: No cluster is at hand, or one that the stack does not go into.
        OperationError: The account of the credentials at hand is not the stack's.
    """
    if isinstance(settings, ExistingClusterSettings) and settings.registry is None:
        return ClusterNodes(checked_context(stack, settings.contexts))
    return preview_registry_of(stack, settings) if preview else registry_of(stack, settings)


def say(line: str) -> None:
    """Print a line of progress."""
    console.print(line)


if __name__ == "__main__":
    main()
