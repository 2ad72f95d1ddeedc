import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import load

from image_classifier import (
    checkpoints,
    evaluation,
    keys,
    networks,
    outputs,
    saved_training,
    shards,
    steps,
    training,
    validation,
    versions,
)
from image_classifier.dataset import LabelledImage
from image_classifier.model import Classifier
from image_classifier.parameters import Parameters
from image_classifier.shards import Shards
from ml_common import registry
from ml_common.device import cpu
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import MANIFEST, Bucket
from tests.dags import narrow_network

PREFIX = "images/"
CHOSEN = Parameters(
    prefix=PREFIX,
    architecture="resnet18",
    weights="none",
    image_size=32,
    epochs=1,
    learning_rate=0.001,
    batch_size=8,
    minimum_accuracy=0.5,
    seed=0,
    workers=1,
    precision=None,
    base_checkpoint=None,
)

pytestmark = pytest.mark.usefixtures("small_network", "prepared")


@pytest.fixture
def prepared(upload_images: Callable[..., None], artifacts: Bucket) -> None:
    upload_images()


def prepare() -> tuple[str, str]:
    fingerprint = validation.validate(PREFIX)["fingerprint"]
    return fingerprint, steps.preprocess(fingerprint, 32)


def train(**changes: Any) -> outputs.Training:
    fingerprint, tensors = prepare()
    return steps.train(fingerprint, tensors, steps.base_checkpoint(CHOSEN), replace(CHOSEN, **changes))


def test_tensors_hold_every_image_once_with_its_class(artifacts: Bucket) -> None:
    _, folder = prepare()
    manifest = artifacts.get_json(folder + MANIFEST)
    train_tensors, held_out = (
        load(artifacts.get(folder + name)) for name in ("train-00000.safetensors", "held_out-00000.safetensors")
    )
    assert manifest["classes"] == {"blue": 8, "green": 8, "red": 8}
    classes = sorted(manifest["classes"])
    assert len(train_tensors["images"]) + len(held_out["images"]) == 24
    assert train_tensors["images"].dtype == torch.uint8
    assert train_tensors["images"].shape[1:] == (3, 32, 32)
    for image, label in zip(held_out["images"], held_out["labels"], strict=True):
        brightest_channel = int(image.float().mean((1, 2)).argmax())
        assert classes[int(label)] == ("red", "green", "blue")[brightest_channel]
    assert sorted(LabelledImage(**image).label for image in manifest["held_out"]) == sorted(
        classes[int(label)] for label in held_out["labels"]
    )


def test_tensors_are_made_once(artifacts: Bucket, data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, folder = prepare()
    monkeypatch.setenv("DATA_BUCKET", "gone")
    assert steps.preprocess(fingerprint, 32) == folder


def test_another_image_size_makes_other_tensors() -> None:
    fingerprint, folder = prepare()
    assert steps.preprocess(fingerprint, 40) != folder


def test_incomplete_tensors_are_made_again(
    artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = validation.validate(PREFIX)["fingerprint"]
    upload = Bucket.upload

    def upload_once(self: Bucket, path: Path, key: str) -> None:
        upload(self, path, key)
        s3.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "upload", upload_once)
        with pytest.raises(ServiceUnavailableError, match="does not answer"):
            steps.preprocess(fingerprint, 32)
    s3.start()
    folder = keys.tensors_folder(fingerprint, 32)
    assert artifacts.published(folder) is None
    assert steps.preprocess(fingerprint, 32) == folder
    assert artifacts.published(folder) is not None


def test_the_base_checkpoint_is_trained_once_and_kept(artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    key = steps.base_checkpoint(CHOSEN)
    before = artifacts.get(key)
    monkeypatch.setattr(checkpoints, "_train", lambda _: pytest.fail("trained again"))
    assert steps.base_checkpoint(CHOSEN) == key
    assert artifacts.get(key) == before


def test_a_chosen_checkpoint_is_not_trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_train", lambda _: pytest.fail("trained"))
    chosen = replace(CHOSEN, base_checkpoint="checkpoints/mine.pth")
    assert steps.base_checkpoint(chosen) == "checkpoints/mine.pth"


def test_pretrained_weights_are_taken_for_the_chosen_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "pretrained", lambda _, *names: " ".join(names))
    chosen = replace(CHOSEN, architecture="resnet50", weights="IMAGENET1K_V1")
    assert steps.base_checkpoint(chosen) == "resnet50 IMAGENET1K_V1"


def test_each_architecture_has_its_own_base_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_train", lambda _: (narrow_network.NarrowResNet(2), []))
    other = replace(CHOSEN, architecture="resnet34")
    assert steps.base_checkpoint(CHOSEN) != steps.base_checkpoint(other)


def test_a_chosen_checkpoint_that_is_missing_is_named() -> None:
    fingerprint, tensors = prepare()
    with pytest.raises(PermanentError, match=r"checkpoints/gone\.pth"):
        steps.train(fingerprint, tensors, "checkpoints/gone.pth", CHOSEN)


def test_the_same_inputs_are_trained_on_once(artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train()
    stored = [found.key for found in artifacts.list("")]
    monkeypatch.setattr(training, "fine_tune", lambda *_, **__: pytest.fail("trained again"))
    second = train()
    assert second == {**first, "reused": True}
    assert [found.key for found in artifacts.list("")] == stored


def test_each_param_and_the_code_make_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, tensors = prepare()
    checkpoint = steps.base_checkpoint(CHOSEN)

    def training_key(**changes: Any) -> str:
        return steps.train(fingerprint, tensors, checkpoint, replace(CHOSEN, **changes))["training_key"]

    changes: list[dict[str, Any]] = [{}, {"epochs": 2}, {"seed": 1}, {"learning_rate": 0.1}, {"batch_size": 9}]
    made = [training_key(**change) for change in changes]
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


def test_an_interrupted_training_continues_from_the_last_saved_epoch(
    artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_training, "INTERVAL_SECONDS", 0)
    folder = keys.model_folder(train(epochs=3)["training_key"])
    whole = artifacts.get(folder + steps.WEIGHTS)
    artifacts.delete(folder + MANIFEST)

    save, saved_after = saved_training.SavedTraining.save, []

    def save_and_lose_the_node(saved: Any, parts: Any, epochs: Any, random: Any) -> None:
        save(saved, parts, epochs, random)
        saved_after.append(len(epochs))
        if len(epochs) == 2:
            raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(saved_training.SavedTraining, "save", save_and_lose_the_node)
        with pytest.raises(ConnectionError):
            train(epochs=3)
        saved_after.clear()
        assert not train(epochs=3)["reused"]
    assert saved_after == []  # only the third epoch was left to train
    manifest = artifacts.published(folder)
    assert manifest
    assert [epoch["number"] for epoch in manifest["history"]] == [1, 2, 3]
    assert not artifacts.exists(folder + steps.STATE)
    if not torch.cuda.is_available():  # a GPU does not repeat bit for bit
        assert artifacts.get(folder + steps.WEIGHTS) == whole


def test_a_short_training_saves_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "save", lambda *_: pytest.fail("saved"))
    assert not train(epochs=2)["reused"]


def test_a_model_whose_upload_is_interrupted_is_trained_again(
    artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint, tensors = prepare()
    checkpoint = steps.base_checkpoint(CHOSEN)
    put_json = Bucket.put_json
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put_json", lambda *arguments: (s3.stop(), put_json(*arguments)))
        with pytest.raises(ServiceUnavailableError):
            steps.train(fingerprint, tensors, checkpoint, CHOSEN)
    s3.start()
    assert not steps.train(fingerprint, tensors, checkpoint, CHOSEN)["reused"]


def test_evaluation_measures_the_held_out_images_and_draws_two_pictures(
    artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _model: None)
    evaluated = steps.evaluate(train(epochs=20, learning_rate=0.02))
    assert evaluated["accuracy"] == 1.0
    assert evaluated["champion_accuracy"] is None
    for key in (evaluated["confusion_matrix"], evaluated["predictions"]):
        assert artifacts.get(key).startswith(b"\x89PNG")


def test_evaluation_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _model: None)
    trained = train()
    first = steps.evaluate(trained)
    monkeypatch.setattr(evaluation, "predict", lambda *_: pytest.fail("measured again"))
    assert steps.evaluate(trained) == first


def test_the_champion_is_measured_on_the_same_images_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, ...]] = []
    champion = Classifier(networks.create("resnet18", 2).eval(), "resnet18", ("red", "unheard of"), 48)
    probabilities = Classifier.probabilities
    monkeypatch.setattr(registry, "champion_version", lambda _model: "7")
    monkeypatch.setattr(versions, "load", lambda _: champion)

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


@pytest.mark.parametrize("classes", [1, 1000])
def test_the_output_of_evaluate_does_not_grow_with_the_classes(
    classes: int, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _model: None)
    scores = {f"class {number}": {"f1": 1.0} for number in range(classes)}
    trained = train()
    artifacts.put_json(
        keys.model_folder(trained["training_key"]) + "evaluation/" + MANIFEST, {"accuracy": 1.0, "per_class": scores}
    )
    assert len(json.dumps(steps.evaluate(trained))) < 1000


def test_a_checkpoint_too_large_for_this_network_is_refused_before_it_is_read(
    artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint, tensors = prepare()
    artifacts.put("huge.pth", bytes(1000))
    monkeypatch.setattr(checkpoints, "MAX_BYTES", 999)
    with pytest.raises(PermanentError, match=r"The checkpoint huge\.pth has .* set the Param `base_checkpoint`"):
        steps.train(fingerprint, tensors, "huge.pth", CHOSEN)


@pytest.fixture
def several_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 3 * 32**2)


@pytest.mark.usefixtures("several_shards")
def test_training_on_several_shards_repeats_bit_for_bit_on_a_cpu(artifacts: Bucket) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU does not repeat bit for bit")
    trained = train(epochs=3)
    folder = keys.model_folder(trained["training_key"])
    assert len(artifacts.get_json(prepare()[1] + MANIFEST)["shards"]["train"]) > 2
    weights = artifacts.get(folder + steps.WEIGHTS)
    artifacts.move(folder + MANIFEST, folder + "old", {})
    assert not train(epochs=3)["reused"]
    assert artifacts.get(folder + steps.WEIGHTS) == weights


@pytest.mark.usefixtures("several_shards")
def test_a_model_learns_from_several_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "champion_version", lambda _model: None)
    assert steps.evaluate(train(epochs=20, learning_rate=0.02))["accuracy"] == 1.0


def test_a_batch_in_several_passes_has_the_gradients_that_it_has_in_one() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 32, 32, generator=generator)
    labels = torch.arange(8) % 2

    def trained(images_per_pass: int) -> tuple[torch.Tensor, list[int]]:
        torch.manual_seed(0)
        network, sizes = networks.create("resnet18", 2), []
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # the one layer that sees a pass instead of a batch
                module.forward = lambda x: x  # type: ignore[assignment,method-assign]
        training.fit(
            network,
            lambda: iter([(images, labels)]),
            batch_sizes=[8],
            epochs=1,
            learning_rate=1e-4,
            bytes_per_pixel=640,
            device=replace(cpu(threads=1), pass_bytes=images_per_pass * 32**2 * 640),
        )
        assert network.fc.weight.grad is not None
        return network.fc.weight.grad, sizes

    whole, [size] = trained(8)
    parts, sizes = trained(3)
    assert (size, sizes) == (8, [3, 3, 2])
    assert torch.allclose(whole, parts, atol=1e-5)


def test_a_gpu_with_too_little_memory_is_an_error_that_no_retry_fixes() -> None:
    """As PyTorch raises it; `make gpu-proof` does it on a GPU."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")

    network = networks.create("resnet18", 2)
    network.register_forward_pre_hook(full)
    shard = Shards([8], lambda _: (torch.zeros((8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 2))
    with pytest.raises(PermanentError, match=r"^The GPU has too little memory \(CUDA out of memory\): set the Param "):
        training.fine_tune(
            network, shard, epochs=1, learning_rate=0.001, batch_size=8, bytes_per_pixel=640, device=cpu(threads=1)
        )


def test_few_images_come_in_smaller_batches_and_many_in_full_ones() -> None:
    assert training._batch_sizes([63], 64) == [[7] + [8] * 7]
    assert training._batch_sizes([1472], 64) == [[64] * 23]
    assert training._batch_sizes([9], 64) == [[4, 5]]
    assert training._batch_sizes([100], 4) == [[4] * 25]
    assert training._batch_sizes([3], 2) == [[3]]


def test_each_process_has_at_least_two_images_in_each_batch() -> None:
    assert training._batch_sizes([50, 50], 8) == [[3, 4, 4, 4, 4, 4, 3, 4, 4, 4, 4, 4, 4]] * 2
    assert training._batch_sizes([5, 4], 4) == [[2, 3], [2, 2]]
    with pytest.raises(PermanentError, match=r"^3 images are too few to train by 2 processes, .* `workers`"):
        training._batch_sizes([2, 1], 8)


@pytest.mark.parametrize("image_count", [8, 16, 24, 32, 40, 48])
def test_any_small_number_of_steps_can_be_trained(image_count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (image_count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(image_count) % 2
    shard = Shards([image_count], lambda _: (images, labels))
    history = training.fine_tune(
        networks.create("resnet18", 2),
        shard,
        epochs=1,
        learning_rate=0.001,
        batch_size=8,
        bytes_per_pixel=640,
        device=cpu(threads=1),
    )
    assert 0 < history[0].loss < 10
