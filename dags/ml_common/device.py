"""Where tensors are computed: on a GPU or on the CPU."""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

# What a network's activations may take in training: the pod of a task without GPUs has 2 GiB in all, and GPUs have at
# least 16 GiB.
CPU_PASS_BYTES = 160 * 2**20
GPU_PASS_BYTES = 10 * 2**30

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Device:
    """A torch device with the number formats that suit it.

    Attributes:
        pass_bytes: Memory for the activations of the images that go through a network at once in training.
        precision: In which format products are computed and activations are kept.
    """

    torch_device: torch.device
    description: str
    memory_format: torch.memory_format
    pass_bytes: int
    precision: torch.dtype

    def receive(self, tensor: Tensor) -> Tensor:
        """Return the tensor on this device; a GPU copies it while the CPU goes on."""
        if self.torch_device.type == "cuda":
            return tensor.pin_memory().to(self.torch_device, non_blocking=True)
        return tensor

    def passes(self, images: Tensor, bytes_per_pixel: int) -> int:
        """Return in how many parts images, [N, C, H, W], go through a network.

        Args:
            images: A batch.
            bytes_per_pixel: What the network takes in single precision.
        """
        pixels = len(images) * images.shape[-2] * images.shape[-1]
        return math.ceil(pixels * bytes_per_pixel * self.precision.itemsize / 4 / self.pass_bytes)

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in this device's precision."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.torch_device.type, dtype=self.precision)


def best_device(local_rank: int = 0, local_size: int = 1, precision: str | None = None) -> Device:
    """Return a CUDA GPU if there is one, else the CPU cores that this process may use.

    Args:
        local_rank: Number of this process among those that compute on this machine, which is that of its GPU.
        local_size: Number of those processes, which share the CPU cores.
        precision: One of PRECISIONS. By default, it is bfloat16 on GPUs that have it, and single precision elsewhere:
            on a CPU, results repeat bit for bit.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
        gpu = torch.device("cuda", local_rank)
        fastest = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        name = torch.cuda.get_device_name(gpu)
        return Device(gpu, name, torch.channels_last, GPU_PASS_BYTES, PRECISIONS[precision or fastest])
    return cpu(max(1, usable_cores() // local_size), PRECISIONS[precision or "float32"])


def cpu(threads: int, precision: torch.dtype = torch.float32) -> Device:
    """Return the CPU, and set this process to `threads` threads."""
    torch.set_num_threads(threads)
    return Device(torch.device("cpu"), f"CPU, {threads} threads", torch.contiguous_format, CPU_PASS_BYTES, precision)


def usable_cores() -> int:
    """Return how many cores this process may use, which an affinity mask can limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
