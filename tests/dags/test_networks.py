import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from image_classifier import networks
from image_classifier.param_schemas import SCHEMAS
from image_classifier.resnets import get_model


def test_every_architecture_that_can_be_chosen_has_its_memory() -> None:
    assert SCHEMAS["architecture"]["enum"] == list(networks.TRAINING_BYTES_PER_PIXEL)


@pytest.mark.parametrize("architecture", networks.TRAINING_BYTES_PER_PIXEL)
def test_a_network_takes_the_smallest_images_and_has_an_output_for_each_class(architecture: str) -> None:
    with torch.inference_mode():
        assert networks.create(architecture, 7).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("side", [32, 33, 64])
@pytest.mark.parametrize("architecture", networks.TRAINING_BYTES_PER_PIXEL)
def test_outputs_and_gradients_are_those_of_torchvision(architecture: str, side: int) -> None:
    torch.manual_seed(0)
    ours, torchvisions = networks.create(architecture, 7).double(), get_model(architecture, num_classes=7).double()
    torchvisions.load_state_dict(ours.state_dict())
    # Batch normalisation multiplies rounding errors, the more the fewer images there are.
    images = torch.rand(8, 3, side, side, dtype=torch.float64)
    logits = [network(images) for network in (ours, torchvisions)]
    torch.testing.assert_close(*logits)
    for each in logits:
        each.square().sum().backward()
    for gradient, expected in zip(ours.parameters(), torchvisions.parameters(), strict=True):
        torch.testing.assert_close(gradient.grad, expected.grad, rtol=1e-5, atol=1e-8)


def test_the_last_layers_multiply_no_padding_of_the_smallest_images() -> None:
    counted = {}
    for side in (32, 64):
        with FlopCounterMode(display=False) as counter:
            networks.create("resnet18", 7).eval()(torch.rand(1, 3, side, side))
        counted[side] = counter.get_total_flops()
    # Without padding, as much for each pixel. With it, the last layers take more for small images.
    assert counted[32] < counted[64] / 4


@pytest.mark.parametrize("architecture", networks.TRAINING_BYTES_PER_PIXEL)
def test_training_keeps_no_more_than_the_stated_memory_for_each_pixel(architecture: str) -> None:
    network, side, kept = networks.create(architecture, 10), 64, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(torch.rand(1, 3, side, side).expand(2, -1, -1, -1))
    for parameter in network.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    assert logits.requires_grad
    stated = networks.TRAINING_BYTES_PER_PIXEL[architecture]
    assert 0.5 * stated < sum(kept.values()) / (2 * side**2) <= stated
