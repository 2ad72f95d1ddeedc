"""The nodes that images are built for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.documents import REPOSITORY
from infra.settings.loading import stack_summaries
from infra.settings.stack_summaries import StackSummary, chain


@dataclass(frozen=True)
class Nodes:
    """The nodes that images are built for.

    Attributes:
        architecture: The processor architecture, such as arm64; None for that of this machine.
        gpus: Whether some nodes have GPUs.
    """

    architecture: str | None = None
    gpus: bool = False

    @classmethod
    def of(cls, stacks: Iterable[StackSummary]) -> Self:
        """Return the nodes of stacks that run the same images.

        Nodes of existing clusters are assumed to have no GPUs and the architecture of the other stacks, or else that
        of this machine.
        """
        found = list(stacks)
        architecture = next((stack.architecture for stack in found if stack.architecture), None)
        return cls(architecture, any(stack.has_gpus for stack in found))

    def arguments(self, image: str) -> Mapping[str, str]:
        """Return the build arguments of an image that depend on the nodes.

        The CPU build from PyTorch's own index is 4 GiB smaller than the build on PyPI, which supports GPUs.
        """
        return {"TORCH_BACKEND": "" if self.gpus else "cpu"} if image == "ml" else {}


LIKE_THIS_MACHINE = Nodes()


def nodes_of(stack: str, folder: Path = REPOSITORY) -> Nodes:
    """Return the nodes that a stack's images are built for: those of all stacks in its promotion chain."""
    stacks = stack_summaries(folder)
    return Nodes.of(stacks[name] for name in chain(stack, stacks))
