import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from image_classifier import networks
from image_classifier.model import METADATA, Classifier
from ml_common.errors import PermanentError

IMAGES = torch.arange(2 * 3 * 32 * 32, dtype=torch.uint8).reshape(2, 3, 32, 32)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_model_file_says_of_which_network_it_is(architecture: str, tmp_path: Path) -> None:
    model = Classifier(networks.create(architecture, 2).eval(), architecture, ("a", "b"), 32)
    file = tmp_path / "model.safetensors"
    file.write_bytes(model.to_bytes())
    loaded = Classifier.from_file(file)
    assert (loaded.architecture, loaded.classes, loaded.image_size) == (architecture, ("a", "b"), 32)
    assert torch.equal(loaded.probabilities(IMAGES), model.probabilities(IMAGES))


def test_a_model_file_that_names_no_network_is_a_resnet18(tmp_path: Path) -> None:
    network = networks.create("resnet18", 2).eval()
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(network.state_dict(), {METADATA: json.dumps({"classes": ["a", "b"], "image_size": 32})}))
    loaded = Classifier.from_file(file)
    assert loaded.architecture == "resnet18"
    assert torch.equal(loaded.network.get_parameter("conv1.weight"), network.conv1.weight)


def test_a_model_file_of_an_unknown_network_is_refused(tmp_path: Path) -> None:
    metadata = {"architecture": "resnet999", "classes": ["a", "b"], "image_size": 32}
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(networks.create("resnet18", 2).state_dict(), {METADATA: json.dumps(metadata)}))
    with pytest.raises(PermanentError, match="is not a model of image_classifier: Unknown model resnet999"):
        Classifier.from_file(file)
