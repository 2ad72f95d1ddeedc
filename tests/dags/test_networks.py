import pytest
import torch

from image_classifier import networks
from image_classifier.param_schemas import SCHEMAS


def test_every_architecture_that_can_be_chosen_has_its_memory() -> None:
    assert SCHEMAS["architecture"]["enum"] == list(networks.TRAINING_BYTES_PER_PIXEL)


@pytest.mark.parametrize("architecture", networks.TRAINING_BYTES_PER_PIXEL)
def test_a_network_takes_the_smallest_images_and_has_an_output_for_each_class(architecture: str) -> None:
    with torch.inference_mode():
        assert networks.create(architecture, 7).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


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
