"""The processes that train one network together, as each of them sees the others."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Team:
    """A process and those that it trains with; by default, it trains alone.

    Attributes:
        rank: Number of this process; number 0 saves what all have computed.
        size: Number of processes.
        local_rank: Number of this process on its machine, which is that of its GPU.
        local_size: Number of processes on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def replicate(self, network: nn.Module) -> nn.Module:
        """Return the network with the weights of process 0, whose gradients are averaged over all processes."""
        return (
            network
            if self.size == 1
            else DistributedDataParallel(network, forward_sync_buffers=False, gradient_as_bucket_view=True)
        )

    def exchange(self, replica: nn.Module, *, when: bool) -> AbstractContextManager[object]:
        """Average the gradients that backward() has added up so far, or only add to them."""
        return replica.no_sync() if isinstance(replica, DistributedDataParallel) and not when else nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of every process' values, a tensor on the CPU."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return every process' values by rank: tensors of one shape on the CPU."""
        if self.size == 1:
            return [values]
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        distributed.all_gather(gathered, values)
        return gathered

    def average_statistics(self, network: nn.Module) -> None:
        """Average the running statistics of batch normalisation, which each process computes from its own images."""
        if self.size == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer.div_(self.size)


ALONE = Team()
