"""All steps in a row with real services: S3, MLflow, and serving processes that take over from each other."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from image_classifier import gate, steps, validation, versions
from image_classifier.endpoint_check import check_endpoint
from image_classifier.model import Classifier
from image_classifier.parameters import Parameters
from ml_common import deployment, registry
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket

PREFIX = "images/"
REPOSITORY = Path(__file__).parents[2]

# The serving program for the narrow network.
START_SERVING = """
from image_classifier import networks
from tests.dags import narrow_network
networks.create = narrow_network.create
import serving
serving.main()
"""

pytestmark = pytest.mark.usefixtures("small_network", "mlflow_registry", "artifacts")


class ServingProcesses:
    """Roll out serving on one port: start the new process, then stop the old one."""

    def __init__(self) -> None:
        self.port = 0
        self.running: list[subprocess.Popen[str]] = []

    def start(self, version: str) -> str:
        command = [sys.executable, "-c", START_SERVING, "--model", versions.MODEL_NAME]
        command += ["--port", str(self.port), "--version", version]
        path = os.pathsep.join(str(REPOSITORY / folder) for folder in ("", "dags", "images/serving"))
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.running.append(process)
        assert process.stdout is not None
        endpoint = process.stdout.readline().split()[-1]
        self.port = int(endpoint.rpartition(":")[2])
        return endpoint

    def roll_out(self, version: str) -> str:
        endpoint = self.start(version)
        for old in self.running[:-1]:
            old.send_signal(signal.SIGTERM)
            assert old.wait(120) in {0, -signal.SIGTERM}
        return endpoint


@pytest.fixture
def serving_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServingProcesses]:
    processes = ServingProcesses()
    monkeypatch.setattr(deployment, "deploy", lambda _name, version, _model: processes.roll_out(version))
    yield processes
    for process in processes.running:
        process.kill()
        process.wait()


def run(run_id: str, *, seed: int = 0, minimum_accuracy: float = 0.5) -> str:
    dataset = validation.validate(PREFIX)
    tensors = steps.preprocess(dataset["fingerprint"], 32)
    chosen = Parameters(
        prefix=PREFIX,
        architecture="resnet18",
        weights="none",
        image_size=32,
        epochs=10,
        learning_rate=0.02,
        batch_size=8,
        minimum_accuracy=minimum_accuracy,
        seed=seed,
        workers=1,
        precision=None,
        base_checkpoint=None,
    )
    trained = steps.train(dataset["fingerprint"], tensors, steps.base_checkpoint(chosen), chosen)
    evaluated = steps.evaluate(trained)
    registered = steps.register(trained, evaluated, gate.decide(evaluated, minimum_accuracy))
    deployed = steps.deploy()
    return steps.smoke_test(run_id, PREFIX, dataset, tensors, trained, evaluated, registered, deployed)


def test_a_run_ends_with_a_report_of_a_served_champion_and_a_second_run_adds_nothing(
    upload_images: Callable[..., None], data: Bucket, artifacts: Bucket, serving_processes: ServingProcesses
) -> None:
    upload_images()
    data.put("images/red/empty.png", b"")
    report = artifacts.get_json(run("manual__2026-01-01T00:00:00+00:00"))
    assert report["accuracy"] >= 0.5
    assert report["quarantined"] == {"the file is empty": 1}
    assert (report["version"], report["champion_version"], report["promoted"]) == ("1", "1", True)
    assert report["smoke_test"] == {"images": len(artifacts_held_out(artifacts)), "agreement": 1.0}
    for key in (
        report["confusion_matrix"],
        report["predictions"],
        report["model_uri"].partition(f"{artifacts.name}/")[2],
    ):
        assert artifacts.exists(key)

    keys_before = {found.key for found in artifacts.list("")}
    again = artifacts.get_json(run("manual__2026-01-01T00:00:00+00:00"))
    assert {found.key for found in artifacts.list("")} == keys_before
    assert (again["version"], again["training_reused"]) == ("1", True)


def test_class_names_of_any_kind_are_shown_unchanged(
    upload_images: Callable[..., None], data: Bucket, artifacts: Bucket, serving_processes: ServingProcesses
) -> None:
    upload_images()
    names = {"red": "cat (adult)", "green": "dog & wolf", "blue": "$x^ 🐈 [ml] " + "long " * 20}
    for found in list(data.list(PREFIX)):
        colour = found.key.split("/")[1]
        data.move(found.key, found.key.replace(colour, names[colour]), {})
    report = artifacts.get_json(run("manual__2026-01-01T00:00:00+00:00"))
    assert report["classes"] == dict.fromkeys(sorted(names.values()), 8)
    assert set(report["per_class"]) == set(names.values())
    [trained] = MlflowClient().search_runs([MlflowClient().get_experiment_by_name(versions.MODEL_NAME).experiment_id])
    assert "f1_cat :28:adult:29:" in trained.data.metrics
    assert len([name for name in trained.data.metrics if name.startswith("f1_")]) == 3
    png = next(data.get(found.key) for found in data.list(f"{PREFIX}cat (adult)/"))
    answer = httpx.post(f"{report['endpoint']}/predict", files={"image": png}, trust_env=False).json()
    assert set(answer["probabilities"]) == set(names.values())


def artifacts_held_out(artifacts: Bucket) -> list[object]:
    [manifest] = [found.key for found in artifacts.list("") if "/tensors-" in found.key and "manifest" in found.key]
    held_out: list[object] = artifacts.get_json(manifest)["held_out"]
    return held_out


def test_a_run_below_the_minimum_leaves_the_champion_serving(
    upload_images: Callable[..., None], data: Bucket, serving_processes: ServingProcesses
) -> None:
    upload_images()
    run("first")
    with pytest.raises(PermanentError, match="version 1 keeps serving"):
        run("second", seed=1, minimum_accuracy=1.01)
    assert registry.champion_version(versions.MODEL_NAME) == "1"
    health = httpx.get(f"http://127.0.0.1:{serving_processes.port}/healthz", trust_env=False).json()
    assert health["version"] == "1"


def test_a_new_process_takes_over_the_port_without_failed_requests(
    upload_images: Callable[..., None], data: Bucket, serving_processes: ServingProcesses
) -> None:
    upload_images()
    run("first")
    endpoint = f"http://127.0.0.1:{serving_processes.port}"
    seen: list[str] = []
    failures: list[Exception] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                seen.append(httpx.get(f"{endpoint}/healthz", trust_env=False, timeout=10).json()["version"])
            except httpx.HTTPError as error:
                failures.append(error)
            time.sleep(0.005)

    asking = threading.Thread(target=ask)
    asking.start()
    pid_before = serving_processes.running[-1].pid
    assert serving_processes.roll_out("1") == endpoint
    time.sleep(0.2)
    over.set()
    asking.join()
    assert failures == []
    assert len(seen) > 10
    assert serving_processes.running[-1].pid != pid_before
    assert serving_processes.running[-1].poll() is None


def test_the_endpoint_check_refuses_another_version_and_wrong_answers(
    upload_images: Callable[..., None], data: Bucket, serving_processes: ServingProcesses
) -> None:
    upload_images()
    run("first")
    endpoint = f"http://127.0.0.1:{serving_processes.port}"
    model = versions.load("1")
    files = [data.get(found.key) for found in data.list(PREFIX)]
    assert check_endpoint(endpoint, "1", model, files) == 1.0
    assert check_endpoint(endpoint, "1", model, iter(files)) == 1.0  # files may be read as they are sent
    with pytest.raises(PermanentError, match="serves version 1 instead of 2"):
        check_endpoint(endpoint, "2", model, files)
    renamed = Classifier(model.network, model.architecture, model.classes[::-1], model.image_size)
    with pytest.raises(PermanentError, match="agrees with version 1 on"):
        check_endpoint(endpoint, "1", renamed, files)
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        check_endpoint("http://127.0.0.1:9", "1", model, files)


def test_without_a_champion_there_is_nothing_to_deploy() -> None:
    with pytest.raises(PermanentError, match="no champion to deploy"):
        steps.deploy()
