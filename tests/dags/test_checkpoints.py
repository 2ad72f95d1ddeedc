import io
import re
import urllib.request
from http.client import IncompleteRead
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import Tensor

from image_classifier import checkpoints
from image_classifier.checkpoints import network_from
from image_classifier.param_schemas import SCHEMAS
from image_classifier.parameters import NO_WEIGHTS
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket


def pth(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def torchvision_state(class_count: int = 1000) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state: dict[str, Tensor] = torchvision.models.resnet18(num_classes=class_count).state_dict()
    return state


@pytest.mark.parametrize("architecture", ["resnet34", "resnet50"])
def test_a_checkpoint_of_a_larger_network_is_loaded(architecture: str) -> None:
    state = torchvision.models.get_model(architecture).state_dict()
    network = network_from(save(state), "larger.safetensors", architecture, 3)
    assert torch.equal(network.layer4[2].conv1.weight, state["layer4.2.conv1.weight"])


@pytest.mark.parametrize(("name", "write"), [("r.pth", pth), ("r.safetensors", save)])
def test_a_torchvision_checkpoint_is_loaded_except_for_its_head(name: str, write: object) -> None:
    state = torchvision_state()
    network = network_from(write(state), name, "resnet18", 3)  # type: ignore[operator]
    assert network.fc.weight.shape == (3, 512)
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, state[key])


def test_a_checkpoint_of_another_network_is_named_with_a_parameter() -> None:
    with pytest.raises(
        PermanentError,
        match=r"r50\.pth is not a torchvision resnet18: .* such as layer1.* set the Param `architecture`",
    ):
        network_from(pth(torchvision.models.resnet50().state_dict()), "r50.pth", "resnet18", 3)


def test_a_missing_parameter_is_named() -> None:
    state = torchvision_state()
    del state["layer1.0.conv1.weight"]
    with pytest.raises(PermanentError, match=r"1 parameters .* such as layer1\.0\.conv1\.weight"):
        network_from(pth(state), "r.pth", "resnet18", 3)


def test_a_parameter_of_another_shape_is_named() -> None:
    state = torchvision_state() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(PermanentError, match=r"such as conv1\.weight"):
        network_from(pth(state), "r.pth", "resnet18", 3)


@pytest.mark.parametrize("name", ["r.pth", "r.safetensors"])
def test_a_file_that_is_not_a_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(PermanentError, match="cannot be read"):
        network_from(b"not a checkpoint", name, "resnet18", 3)


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("code from the checkpoint ran",))


def test_a_checkpoint_cannot_run_code() -> None:
    with pytest.raises(PermanentError, match="cannot be read"):
        network_from(pth({"conv1.weight": RunsCode()}), "r.pth", "resnet18", 3)


def test_a_file_without_named_tensors_is_refused() -> None:
    with pytest.raises(PermanentError, match="is not a state dict of tensors"):
        network_from(pth([1, 2]), "r.pth", "resnet18", 3)


class WeightsServer:
    """What torchvision's server answers; it counts the downloads."""

    def __init__(self) -> None:
        self.content = pth(torchvision_state())
        self.downloads = 0

    def open(self, url: str, **_: object) -> io.BytesIO:
        assert url.startswith("https://download.pytorch.org/models/resnet18-")
        self.downloads += 1
        return io.BytesIO(self.content)


@pytest.fixture
def weights_server(monkeypatch: pytest.MonkeyPatch) -> WeightsServer:
    server = WeightsServer()
    monkeypatch.setattr(urllib.request, "urlopen", server.open)
    return server


def test_pretrained_weights_are_downloaded_once_and_can_be_trained_on(
    artifacts: Bucket, weights_server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "HASH_PREFIX", re.compile(r"^()"))
    key = checkpoints.pretrained(artifacts, "resnet18", "IMAGENET1K_V1")
    assert re.fullmatch(r"image_classifier/pretrained/resnet18-[0-9a-f]{8}\.pth", key)
    assert checkpoints.pretrained(artifacts, "resnet18", "IMAGENET1K_V1") == key
    assert weights_server.downloads == 1
    network = network_from(checkpoints.read(artifacts, key), key, "resnet18", 3)
    assert torch.equal(network.conv1.weight, torchvision_state()["conv1.weight"])


def test_pretrained_weights_with_the_wrong_hash_are_not_kept(artifacts: Bucket, weights_server: WeightsServer) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"could not be downloaded from https://\S+ \(the SHA-256 of"):
        checkpoints.pretrained(artifacts, "resnet18", "IMAGENET1K_V1")
    assert list(artifacts.list("")) == []


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), TimeoutError("timed out"), IncompleteRead(b"half")], ids=type
)
def test_the_error_says_what_to_do_where_pretrained_weights_cannot_be_downloaded(
    error: Exception, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    sentence = (
        r"^The pretrained weights of resnet50 could not be downloaded from https://\S+/resnet50-\S+ \(.+\): allow this "
        rf"connection, upload the file to s3://{artifacts.name}/image_classifier/pretrained/resnet50-\S+\.pth, or set "
        r"the Param `weights` to none\.$"
    )
    with pytest.raises(ServiceUnavailableError, match=sentence):
        checkpoints.pretrained(artifacts, "resnet50", "IMAGENET1K_V1")


@pytest.mark.parametrize("architecture", SCHEMAS["architecture"]["enum"])
def test_every_choice_of_weights_exists_and_names_its_hash(architecture: str) -> None:
    for name in SCHEMAS["weights"]["enum"]:
        if name != NO_WEIGHTS:
            assert checkpoints.HASH_PREFIX.search(torchvision.models.get_model_weights(architecture)[name].url)
