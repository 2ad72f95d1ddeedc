"""Training by several workers, each of which is a process here, as on a laptop."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from image_classifier import keys, shards, steps, training, validation
from ml_common import workers
from ml_common.device import cpu
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import MANIFEST, Bucket
from ml_common.team import Team
from ml_common.workers import Meeting, Worker
from tests.dags import narrow_network, worker_process
from tests.dags.conftest import Uploader
from tests.dags.test_training_steps import CHOSEN, PREFIX

REPOSITORY = Path(__file__).parents[2]
FOLDER = "training/"
MINUTE = 60


class Process:
    """A worker in another process."""

    def __init__(self, function: str, **arguments: Any) -> None:
        command = [sys.executable, "-m", "tests.dags.worker_process", function, json.dumps(arguments)]
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "dags")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        """Wait until it ends; return its exit code, and its output or its error."""
        output, error = self._process.communicate(timeout=2 * MINUTE)
        return self._process.returncode, error if self._process.returncode else output


def train_small(artifacts: Bucket, folder: Path, count: int, processes: int) -> list[dict[str, Any]]:
    """Train by several workers; return the weights and epochs of each process."""
    folder.mkdir(exist_ok=True)
    started = [
        Process(
            "train_small",
            bucket=artifacts.name,
            folder=FOLDER,
            worker=asdict(Worker(number, count, processes)),
            saved_in=str(folder),
        )
        for number in range(count)
    ]
    for process in started:
        code, output = process.end()
        assert code == 0, output
    return [torch.load(folder / f"{rank}.pt") for rank in range(count * processes)]


def batches_of(rank: int, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[Tensor, Tensor]]]:
    """Return the augmented batches of each epoch that a process of two trains on."""
    recorded: list[list[tuple[Tensor, Tensor]]] = []

    def record(_network: object, batches: Any, *, prepare: Any, epochs: int, **_: object) -> list[training.Epoch]:
        recorded.extend([(prepare(images), labels) for images, labels in batches()] for _ in range(epochs))
        return []

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", record)
        patch.setattr(Team, "gather", lambda _, values: [values, values])
        worker_process.fine_tune(Team(rank, 2))
    return recorded


@pytest.mark.parametrize(("count", "processes"), [(2, 1), (1, 2)])
def test_two_processes_train_the_weights_of_one_with_the_same_batches(
    count: int, processes: int, artifacts: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = train_small(artifacts, tmp_path, count, processes)
    by_rank = [batches_of(rank, monkeypatch) for rank in (0, 1)]
    joined = iter(
        [
            (torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
            for parts in zip(*epochs, strict=True)
        ]
        for epochs in zip(*by_rank, strict=True)
    )
    torch.manual_seed(0)
    network = narrow_network.create("resnet18", 2)
    half = worker_process.BATCH_SIZE // 2 * 32**2 * worker_process.BYTES_PER_PIXEL
    history = training.fit(
        network,
        lambda: iter(next(joined)),
        batch_sizes=[worker_process.BATCH_SIZE] * 4,
        epochs=worker_process.EPOCHS,
        learning_rate=0.01,
        bytes_per_pixel=worker_process.BYTES_PER_PIXEL,
        device=replace(cpu(threads=1), pass_bytes=half),
    )
    for name, weights in network.named_parameters():
        assert torch.equal(weights, first["weights"][name]), name
        assert torch.equal(weights, second["weights"][name]), name
    assert first["statistics"]
    for name, own in first["statistics"].items():  # one process updates them twice for each batch
        average = (own + second["statistics"][name]) / 2
        assert torch.equal(first["weights"][name], average), name
        assert torch.equal(second["weights"][name], average), name
    for alone, together in zip(history, first["epochs"], strict=True):
        assert (alone.number, alone.accuracy) == (together["number"], together["accuracy"])
        assert alone.loss == pytest.approx(together["loss"])


class Step:
    """The step `train` of a run, by several workers."""

    def __init__(self, count: int) -> None:
        fingerprint = validation.validate(PREFIX)["fingerprint"]
        self._arguments = {
            "fingerprint": fingerprint,
            "tensors": steps.preprocess(fingerprint, CHOSEN.image_size),
            "checkpoint": steps.base_checkpoint(CHOSEN),
            "parameters": asdict(replace(CHOSEN, epochs=3, workers=count)),
        }

    def start(self, worker: int, **arguments: Any) -> Process:
        return Process("train", **self._arguments, worker=worker, **arguments)


@pytest.fixture
def step(upload_images: Uploader, artifacts: Bucket, small_network: None) -> Step:
    upload_images()
    return Step(count=2)


def model_of(artifacts: Bucket, output: str) -> tuple[str, bytes]:
    folder = keys.model_folder(json.loads(output)["training_key"])
    assert {stored.key.removeprefix(folder) for stored in artifacts.list(folder)} == {MANIFEST, steps.WEIGHTS}
    return folder, artifacts.get(folder + steps.WEIGHTS)


def test_workers_that_lost_one_of_them_continue_together_to_the_same_model(step: Step, artifacts: Bucket) -> None:
    def train() -> tuple[str, bytes]:
        ends = [process.end() for process in [step.start(1), step.start(0)]]
        assert [code for code, _ in ends] == [0, 0], ends
        [first, second] = [output.splitlines()[-1] for _, output in ends]
        assert first == second
        return model_of(artifacts, first)

    undisturbed = train()
    folder, _ = undisturbed
    for lost in (0, 1):
        artifacts.delete(folder + MANIFEST)
        ends = [process.end() for process in [step.start(lost, killed_after=2), step.start(1 - lost)]]
        assert [code for code, _ in ends] == [-signal.SIGKILL, 1], ends
        assert "ServiceUnavailableError: Another worker has failed or was stopped" in ends[1][1]
        assert "the next one continues from the last saved epoch" in ends[1][1]
        assert train() == undisturbed
        manifest = artifacts.published(folder)
        assert manifest
        assert [epoch["number"] for epoch in manifest["history"]] == [1, 2, 3]


def test_a_worker_that_is_lost_while_they_connect_ends_the_others(artifacts: Bucket) -> None:
    def start(function: str, number: int) -> Process:
        return Process(function, bucket=artifacts.name, folder=FOLDER, worker=asdict(Worker(number, 2, 1)))

    ends = [process.end() for process in [start("be_lost", 1), start("lose_another", 0)]]
    assert [code for code, _ in ends] == [-signal.SIGKILL, 1], ends
    assert "Another worker has failed or was stopped (not connected after 10 s): this try ends" in ends[1][1]


@pytest.fixture
def meeting(artifacts: Bucket) -> Meeting:
    return Meeting(artifacts, FOLDER)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "JOIN_SECONDS", 1.0)
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(workers, "STEP_TIMEOUT", timedelta(seconds=2))


def must_not_train(_team: Team) -> None:
    pytest.fail("trained without the others")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("worker", "missing"), [(0, 1), (1, 0)])
def test_a_worker_that_does_not_start_ends_the_others_with_a_sentence(
    worker: int, missing: int, meeting: Meeting
) -> None:
    sentence = rf"^Worker {missing} of 2 \(numbered from 0\) did not start within 0 minutes: .* `workers` to a smaller"
    with pytest.raises(PermanentError, match=sentence):
        workers.run(must_not_train, Worker(worker, 2, 1), meeting)
    assert meeting.address() is None


@pytest.mark.usefixtures("impatient")
def test_a_worker_does_not_join_the_others_of_an_earlier_try(meeting: Meeting) -> None:
    store = workers._lead(meeting)
    store.set("worker 0", "1")
    store.set(workers.COMPLETE, "")
    with pytest.raises(PermanentError, match=r"^Worker 0 of 2 .*"):
        workers.run(must_not_train, Worker(1, 2, 1), meeting)


@pytest.mark.usefixtures("impatient")
def test_a_worker_looks_for_the_next_address_if_a_worker_is_gone(meeting: Meeting) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    meeting.announce("127.0.0.1", port)
    with pytest.raises(PermanentError, match=r"^Worker 0 of 2 .*"):
        workers.run(must_not_train, Worker(1, 2, 1), meeting)


def test_a_worker_that_starts_after_the_end_has_nothing_to_do(meeting: Meeting) -> None:
    meeting.bucket.publish(FOLDER, {}, {})
    workers.run(must_not_train, Worker(1, 2, 1), meeting)


def test_workers_with_different_numbers_of_gpus_are_refused(meeting: Meeting) -> None:
    store = workers._lead(meeting)
    store.set("worker 0", "4")
    with pytest.raises(PermanentError, match=r"^Worker 0 has 4 processes and worker 1 has 2.* node pool"):
        workers.run(must_not_train, Worker(1, 2, 2), meeting)


def test_workers_on_a_laptop_do_not_share_its_gpus(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(PermanentError, match=r"^2 workers would use the same GPUs .* `workers` to 1"):
        workers.run(must_not_train, Worker(0, 2, 1), meeting)


def test_workers_on_a_laptop_listen_on_the_loopback_address_only(meeting: Meeting) -> None:
    store = workers._lead(meeting)
    listening = [one.laddr for one in psutil.Process().net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert store.port in {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("train", "error", "sentence"),
    [
        (worker_process.fail_for_good, PermanentError, r"^The GPU has too little memory\.$"),
        (worker_process.be_killed, ServiceUnavailableError, "^A process of this worker has ended: .*SIGKILL"),
    ],
)
def test_a_worker_fails_as_its_processes_do(
    train: Any, error: type[Exception], sentence: str, meeting: Meeting
) -> None:
    with pytest.raises(error, match=sentence):
        workers.run(train, Worker(0, 1, 2), meeting)


def test_each_process_reads_its_own_part_of_every_shard(
    upload_images: Uploader, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 3 * 32**2)
    upload_images()
    tensors = steps.preprocess(validation.validate(PREFIX)["fingerprint"], 32)
    whole, _ = steps._shards(artifacts, tensors, steps.TRAINING)
    assert len(whole.counts) > 2
    monkeypatch.setattr(Bucket, "download", lambda *_: pytest.fail("fetched a whole shard"))
    parts = [steps._shards(artifacts, tensors, steps.TRAINING, Team(rank, 7))[0] for rank in range(7)]
    assert 0 in parts[0].counts  # a shard has less than seven images
    monkeypatch.undo()
    for index, count in enumerate(whole.counts):
        images, labels = whole.load(index)
        of_parts = [part.load(index) for part in parts]
        assert [len(each) for each, _ in of_parts] == [part.counts[index] for part in parts]
        assert len(images) == count
        assert torch.equal(torch.cat([each for each, _ in of_parts]), images)
        assert torch.equal(torch.cat([each for _, each in of_parts]), labels)


def test_no_more_workers_are_started_than_airflow_runs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(CHOSEN, workers=3)
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "3")
    assert steps.workers("model.pth", chosen) == [{"checkpoint": "model.pth", "worker": number} for number in range(3)]
    monkeypatch.setenv("AIRFLOW__CORE__PARALLELISM", "2")
    with pytest.raises(
        PermanentError, match=r"^The Param `workers` is 3, but this Airflow runs only 2 tasks at once: .*"
    ):
        steps.workers("model.pth", chosen)
