"""What differs between images of the same sources: the nodes that they are for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.documents import REPOSITORY
from infra.settings.loading import stack_summaries
from infra.settings.stack_summaries import StackSummary, chain


@dataclass(frozen=True)
class Nodes:
    """The nodes that images are for.

    Attributes:
        architecture: That of their processors, such as arm64; None where it is that of this machine.
        gpus: Whether some have GPUs.
    """

    architecture: str | None = None
    gpus: bool = False

    @classmethod
    def of(cls, stacks: Iterable[StackSummary]) -> Self:
        """Return the nodes of stacks that run the same images.

        Those of existing clusters are taken to be like the others', or else like this machine, and without GPUs.
        """
        found = list(stacks)
        architecture = next((stack.architecture for stack in found if stack.architecture), None)
        return cls(architecture, any(stack.has_gpus for stack in found))

    def arguments(self, image: str) -> Mapping[str, str]:
        """Return the arguments of an image's Dockerfile that depend on the nodes.

        The build of PyTorch's own index for CPUs is 4 GiB smaller than PyPI's, which computes on GPUs too.
        """
        return {"TORCH_BACKEND": "" if self.gpus else "cpu"} if image == "ml" else {}


LIKE_THIS_MACHINE = Nodes()


def nodes_of(stack: str, folder: Path = REPOSITORY) -> Nodes:
    """Return the nodes that a stack's images are for: those of all stacks of its chain, which run the same images."""
    stacks = stack_summaries(folder)
    return Nodes.of(stacks[name] for name in chain(stack, stacks))
