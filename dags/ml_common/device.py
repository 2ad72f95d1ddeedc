"""Where tensors are computed: on a GPU or on the CPU."""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

# What a network's activations may take in training, in single precision: on a CPU, a task's pod has 2 GiB in all; on a
# GPU, in bfloat16, this is 10 of at least 16 GiB.
CPU_PASS_BYTES = 160 * 2**20
GPU_PASS_BYTES = 20 * 2**30


@dataclass(frozen=True)
class Device:
    """A torch device with the number formats that suit it.

    Attributes:
        pass_bytes: Memory for the activations of the images that go through a network at once in training.
    """

    torch_device: torch.device
    description: str
    memory_format: torch.memory_format
    pass_bytes: int

    def receive(self, tensor: Tensor) -> Tensor:
        """Return the tensor on this device; a GPU copies it while the CPU goes on."""
        if self.torch_device.type == "cuda":
            return tensor.pin_memory().to(self.torch_device, non_blocking=True)
        return tensor

    def passes(self, images: Tensor, bytes_per_pixel: int) -> int:
        """Return in how many parts images, [N, C, H, W], go through a network that takes `bytes_per_pixel`."""
        return math.ceil(len(images) * images.shape[-2] * images.shape[-1] * bytes_per_pixel / self.pass_bytes)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in bfloat16 on a GPU, and in single precision on a CPU, where results must repeat bit for bit."""
        if self.torch_device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()


def best_device(local_rank: int = 0, local_size: int = 1) -> Device:
    """Return a CUDA GPU if there is one, else the CPU cores that this process may use.

    Args:
        local_rank: Number of this process among those that compute on this machine, which is that of its GPU.
        local_size: Number of those processes, which share the CPU cores.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        gpu = torch.device("cuda", local_rank)
        return Device(gpu, torch.cuda.get_device_name(gpu), torch.channels_last, GPU_PASS_BYTES)
    return cpu(threads=max(1, usable_cores() // local_size))


def cpu(threads: int) -> Device:
    """Return the CPU, and set this process to `threads` threads."""
    torch.set_num_threads(threads)
    return Device(torch.device("cpu"), f"CPU, {threads} threads", torch.contiguous_format, CPU_PASS_BYTES)


def usable_cores() -> int:
    """Return how many cores this process may use, which an affinity mask can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
