"""Where tensors are computed: the one place that chooses between GPU and CPU."""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

# ResNet-18 takes 640 bytes for each pixel of its input until the gradients are computed: 160 MiB on a CPU, where a pod
# has 2 GiB. On a GPU, in bfloat16, 10 of at least 16 GiB.
CPU_PASS_PIXELS = 2**18
GPU_PASS_PIXELS = 2**25


@dataclass(frozen=True)
class Device:
    """A torch device with the number formats that suit it.

    Attributes:
        pass_pixels: As many pixels of images go through a network at once in training.
    """

    torch_device: torch.device
    description: str
    memory_format: torch.memory_format
    pass_pixels: int

    def receive(self, tensor: Tensor) -> Tensor:
        """The tensor on this device; a copy to a GPU goes on while the CPU continues."""
        if self.torch_device.type == "cuda":
            return tensor.pin_memory().to(self.torch_device, non_blocking=True)
        return tensor

    def passes(self, images: Tensor) -> int:
        """In how many parts the images, [N, C, H, W], go through a network."""
        return math.ceil(len(images) * images.shape[-2] * images.shape[-1] / self.pass_pixels)

    def autocast(self) -> AbstractContextManager[object]:
        """bfloat16 on a GPU; full precision on a CPU, where results must repeat bit for bit."""
        if self.torch_device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()


def best_device() -> Device:
    """The first CUDA GPU when there is one, else all CPU cores that this process may use."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        return Device(torch.device("cuda"), torch.cuda.get_device_name(), torch.channels_last, GPU_PASS_PIXELS)
    return cpu(threads=usable_cores())


def cpu(threads: int) -> Device:
    """The CPU with `threads` threads for this whole process."""
    torch.set_num_threads(threads)
    return Device(torch.device("cpu"), f"CPU, {threads} threads", torch.contiguous_format, CPU_PASS_PIXELS)


def usable_cores() -> int:
    """Cores that the scheduler lets this process use: fewer than the machine has under an affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
