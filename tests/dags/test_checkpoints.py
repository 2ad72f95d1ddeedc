import io

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import Tensor

from image_classifier.checkpoints import network_from
from ml_common.errors import PermanentError


def pth(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def torchvision_state(class_count: int = 1000) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state: dict[str, Tensor] = torchvision.models.resnet18(num_classes=class_count).state_dict()
    return state


@pytest.mark.parametrize(("name", "write"), [("r.pth", pth), ("r.safetensors", save)])
def test_a_torchvision_checkpoint_is_taken_over_but_for_its_head(name: str, write: object) -> None:
    state = torchvision_state()
    network = network_from(write(state), name, 3)  # type: ignore[operator]
    assert network.fc.weight.shape == (3, 512)
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, state[key])


def test_a_checkpoint_of_another_network_is_named_with_a_parameter() -> None:
    with pytest.raises(PermanentError, match=r"r50\.pth is not a torchvision ResNet-18: .* such as layer1"):
        network_from(pth(torchvision.models.resnet50().state_dict()), "r50.pth", 3)


def test_a_missing_parameter_is_named() -> None:
    state = torchvision_state()
    del state["layer1.0.conv1.weight"]
    with pytest.raises(PermanentError, match=r"1 parameters .* such as layer1\.0\.conv1\.weight"):
        network_from(pth(state), "r.pth", 3)


def test_a_parameter_of_another_shape_is_named() -> None:
    state = torchvision_state() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(PermanentError, match=r"such as conv1\.weight"):
        network_from(pth(state), "r.pth", 3)


@pytest.mark.parametrize("name", ["r.pth", "r.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(PermanentError, match="cannot be read"):
        network_from(b"not a checkpoint", name, 3)


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("code from the checkpoint ran",))


def test_a_checkpoint_cannot_run_code() -> None:
    with pytest.raises(PermanentError, match="cannot be read"):
        network_from(pth({"conv1.weight": RunsCode()}), "r.pth", 3)


def test_something_else_than_tensors_by_name_is_refused() -> None:
    with pytest.raises(PermanentError, match="something else than a state dict"):
        network_from(pth([1, 2]), "r.pth", 3)
