import os

import pytest
import torch

from ml_common import device


def test_a_gpu_is_used_if_there_is_one_with_its_own_number_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: f"NVIDIA A10G number {gpu.index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    monkeypatch.setattr(torch, "autocast", lambda kind, dtype: (kind, dtype))
    best = device.best_device(local_rank=3, local_size=4)
    assert best.torch_device == torch.device("cuda:3")
    assert best.description == "NVIDIA A10G number 3"
    assert best.memory_format is torch.channels_last
    autocast: object = best.autocast()
    assert autocast == ("cuda", torch.bfloat16)
    assert device.best_device(precision="float32").precision == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert device.best_device().precision == torch.float32


def test_without_a_gpu_the_cpu_computes_in_full_precision_on_all_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    best = device.best_device()
    assert best.torch_device.type == "cpu"
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    with best.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("local_size", "threads"), [(1, 6), (2, 3), (4, 1), (16, 1)])
def test_processes_of_one_machine_share_its_cores(
    local_size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "usable_cores", lambda: 6)
    device.best_device(0, local_size)
    assert torch.get_num_threads() == threads


def test_a_cpu_computes_in_the_chosen_precision_and_needs_fewer_passes_in_the_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small, single = (device.best_device(precision=precision) for precision in ("bfloat16", "float32"))
    with small.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    images, bytes_per_pixel = torch.empty(64, 3, 64, 64), 2560
    assert (small.passes(images, bytes_per_pixel), single.passes(images, bytes_per_pixel)) == (2, 4)
