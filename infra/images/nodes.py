"""What differs between images of the same sources: the nodes that they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from infra.settings import ExistingClusterSettings, StackSettings


@dataclass(frozen=True)
class Nodes:
    """The nodes of a stack.

    Attributes:
        architecture: That of their processors, such as arm64; None where it is that of this machine.
        gpus: Whether some have GPUs.
    """

    architecture: str | None = None
    gpus: bool = False

    @classmethod
    def of(cls, settings: StackSettings) -> Self:
        """Return a stack's nodes; those of an existing cluster are taken to be like this machine, without GPUs."""
        if isinstance(settings, ExistingClusterSettings):
            return cls()
        pools = settings.node_pools
        return cls(pools.cpu.architecture, pools.gpu is not None)

    def arguments(self, image: str) -> Mapping[str, str]:
        """Return the arguments of an image's Dockerfile that depend on the nodes.

        The build of PyTorch's own index for CPUs is 4 GiB smaller than PyPI's, which computes on GPUs too.
        """
        return {"TORCH_BACKEND": "" if self.gpus else "cpu"} if image == "ml" else {}


LIKE_THIS_MACHINE = Nodes()
