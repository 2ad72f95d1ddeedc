import torch
import torchvision

from image_classifier.resnet import ResNet18


def test_names_and_shapes_are_those_of_torchvision() -> None:
    ours, theirs = ResNet18(1000).state_dict(), torchvision.models.resnet18().state_dict()
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


def test_a_torchvision_state_dict_gives_equal_outputs() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    ours = ResNet18(7).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images))
