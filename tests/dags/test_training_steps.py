import json
from collections.abc import Callable

import pytest
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import load

from image_classifier import checkpoints, evaluation, keys, registry, steps, training
from image_classifier.dataset import LabelledImage
from image_classifier.model import Classifier
from image_classifier.resnet import ResNet18
from ml_common.device import cpu
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import MANIFEST, Bucket

PREFIX = "images/"
CHOSEN = {"image_size": 32, "epochs": 1, "learning_rate": 0.001, "batch_size": 8, "seed": 0}

pytestmark = pytest.mark.usefixtures("small_network", "prepared")


@pytest.fixture
def prepared(upload_images: Callable[..., None], artifacts: Bucket) -> None:
    upload_images()


def prepare() -> tuple[str, str]:
    fingerprint = steps.validate(PREFIX)["fingerprint"]
    return fingerprint, steps.preprocess(fingerprint, 32)


def train(**changes: float) -> steps.Training:
    fingerprint, tensors = prepare()
    return steps.train(fingerprint, tensors, steps.base_checkpoint(None), **{**CHOSEN, **changes})  # type: ignore[arg-type]


def test_tensors_hold_every_image_once_with_its_class(artifacts: Bucket) -> None:
    _, folder = prepare()
    manifest = artifacts.get_json(folder + MANIFEST)
    train_tensors, held_out = (
        load(artifacts.get(folder + name)) for name in ("train.safetensors", "held_out.safetensors")
    )
    assert manifest["classes"] == ["blue", "green", "red"]
    assert len(train_tensors["images"]) + len(held_out["images"]) == 24
    assert train_tensors["images"].dtype == torch.uint8
    assert train_tensors["images"].shape[1:] == (3, 32, 32)
    for image, label in zip(held_out["images"], held_out["labels"], strict=True):
        brightest_channel = int(image.float().mean((1, 2)).argmax())
        assert manifest["classes"][int(label)] == ("red", "green", "blue")[brightest_channel]
    assert [LabelledImage(**image).label for image in manifest["held_out"]] == [
        manifest["classes"][int(label)] for label in held_out["labels"]
    ]


def test_tensors_are_made_once(artifacts: Bucket, data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, folder = prepare()
    monkeypatch.setenv("DATA_BUCKET", "gone")
    assert steps.preprocess(fingerprint, 32) == folder


def test_another_image_size_makes_other_tensors() -> None:
    fingerprint, folder = prepare()
    assert steps.preprocess(fingerprint, 40) != folder


def test_tensors_half_written_are_made_again(
    artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = steps.validate(PREFIX)["fingerprint"]
    put = Bucket.put

    def put_once(self: Bucket, key: str, content: bytes) -> None:
        put(self, key, content)
        s3.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put", put_once)
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            steps.preprocess(fingerprint, 32)
    s3.start()
    folder = keys.tensors_folder(fingerprint, 32)
    assert artifacts.published(folder) is None
    assert steps.preprocess(fingerprint, 32) == folder
    assert artifacts.published(folder) is not None


def test_the_base_checkpoint_is_trained_once_and_kept(artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    key = steps.base_checkpoint(None)
    before = artifacts.get(key)
    monkeypatch.setattr(checkpoints, "_train", lambda: pytest.fail("trained again"))
    assert steps.base_checkpoint(None) == key
    assert artifacts.get(key) == before


def test_a_chosen_checkpoint_is_not_trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_train", lambda: pytest.fail("trained"))
    assert steps.base_checkpoint("checkpoints/mine.pth") == "checkpoints/mine.pth"


def test_a_chosen_checkpoint_that_is_missing_is_named() -> None:
    fingerprint, tensors = prepare()
    with pytest.raises(PermanentError, match=r"checkpoints/gone\.pth"):
        steps.train(fingerprint, tensors, "checkpoints/gone.pth", **CHOSEN)  # type: ignore[arg-type]


def test_the_same_inputs_are_trained_on_once(artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train()
    stored = [found.key for found in artifacts.list("")]
    monkeypatch.setattr(training, "fine_tune", lambda *_, **__: pytest.fail("trained again"))
    second = train()
    assert second == {**first, "reused": True}
    assert [found.key for found in artifacts.list("")] == stored


def test_each_param_and_the_code_make_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, tensors = prepare()
    checkpoint = steps.base_checkpoint(None)

    def training_key(**changes: float) -> str:
        chosen = {**CHOSEN, **changes}
        return steps.train(fingerprint, tensors, checkpoint, **chosen)["training_key"]  # type: ignore[arg-type]

    made = [training_key(**change) for change in ({}, {"epochs": 2}, {"seed": 1}, {"learning_rate": 0.1})]
    made.append(training_key(batch_size=9))
    monkeypatch.setattr(keys, "code_version", lambda: "changed")
    made.append(training_key())
    assert len(set(made)) == 6


def test_training_repeats_bit_for_bit_on_a_cpu(artifacts: Bucket) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU does not repeat bit for bit")
    folder = keys.model_folder(train()["training_key"])
    weights = artifacts.get(folder + steps.WEIGHTS)
    artifacts.put(folder + "other", b"")
    artifacts.move(folder + MANIFEST, folder + "old", {})
    train()
    assert artifacts.get(folder + steps.WEIGHTS) == weights


def test_a_model_whose_upload_breaks_off_is_trained_again(
    artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint, tensors = prepare()
    checkpoint = steps.base_checkpoint(None)
    put_json = Bucket.put_json
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_json", lambda *arguments: (s3.stop(), put_json(*arguments)))
        with pytest.raises(ServiceUnavailableError):
            steps.train(fingerprint, tensors, checkpoint, **CHOSEN)  # type: ignore[arg-type]
    s3.start()
    assert not steps.train(fingerprint, tensors, checkpoint, **CHOSEN)["reused"]  # type: ignore[arg-type]


def test_evaluation_measures_the_held_out_images_and_draws_two_pictures(
    artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda: None)
    evaluated = steps.evaluate(train(epochs=20, learning_rate=0.02))
    assert evaluated["accuracy"] == 1.0
    assert set(evaluated["per_class"]) == {"blue", "green", "red"}
    assert evaluated["champion_accuracy"] is None
    for key in (evaluated["confusion_matrix"], evaluated["predictions"]):
        assert artifacts.get(key).startswith(b"\x89PNG")


def test_evaluation_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda: None)
    trained = train()
    first = steps.evaluate(trained)
    monkeypatch.setattr(evaluation, "predict", lambda *_: pytest.fail("measured again"))
    assert steps.evaluate(trained) == first


def test_the_champion_is_measured_on_the_same_images_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, ...]] = []
    champion = Classifier(ResNet18(2).eval(), ("red", "unheard of"), 48)
    probabilities = Classifier.probabilities
    monkeypatch.setattr(registry, "champion_version", lambda: "7")
    monkeypatch.setattr(registry, "load", lambda _: champion)

    def measuring(self: Classifier, pixels: torch.Tensor) -> torch.Tensor:
        measured.append(tuple(pixels.shape))
        return probabilities(self, pixels)

    monkeypatch.setattr(Classifier, "probabilities", measuring)
    evaluated = steps.evaluate(train())
    assert evaluated["champion_version"] == "7"
    assert [shape[1:] for shape in measured] == [(3, 32, 32), (3, 48, 48)]
    assert measured[0][0] == measured[1][0]
    assert evaluated["champion_accuracy"] is not None
    assert evaluated["champion_accuracy"] < 1


def test_steps_return_small_json_values() -> None:
    assert len(json.dumps(train())) < 1000


def test_few_images_come_in_smaller_batches_and_many_in_full_ones() -> None:
    assert training._batch_sizes(63, 64) == [8] * 7 + [7]
    assert training._batch_sizes(1427, 64) == [64] * 22 + [19]
    assert training._batch_sizes(9, 64) == [9]
    assert training._batch_sizes(100, 4) == [4] * 25


@pytest.mark.parametrize("image_count", [8, 16, 24, 32, 40, 48])
def test_any_small_number_of_steps_can_be_trained(image_count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (image_count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(image_count) % 2
    history = training.fine_tune(
        ResNet18(2), images, labels, epochs=1, learning_rate=0.001, batch_size=8, seed=0, device=cpu(threads=1)
    )
    assert 0 < history[0].loss < 10
