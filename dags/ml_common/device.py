"""Where tensors are computed: the one place that chooses between GPU and CPU."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """A torch device with the number formats that suit it."""

    torch_device: torch.device
    description: str
    memory_format: torch.memory_format

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 on a GPU; full precision on a CPU, where results must repeat bit for bit."""
        if self.torch_device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()


def best_device() -> Device:
    """The first CUDA GPU when there is one, else all CPU cores that this process may use."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        return Device(torch.device("cuda"), torch.cuda.get_device_name(), torch.channels_last)
    return cpu(threads=usable_cores())


def cpu(threads: int) -> Device:
    """The CPU with `threads` threads for this whole process."""
    torch.set_num_threads(threads)
    return Device(torch.device("cpu"), f"CPU, {threads} threads", torch.contiguous_format)


def usable_cores() -> int:
    """Cores that the scheduler lets this process use: fewer than the machine has under an affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
