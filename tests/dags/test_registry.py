import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities import Run as StoredRun
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from moto.server import ThreadedMotoServer

from docs_assistant import versions as answers_versions
from flight_model import versions as delays_versions
from image_classifier import versions as classifier_versions
from infra.documents import REPOSITORY
from ml_common import registry
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.registry import Run

CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
class Doubles(PythonModel):
    def predict(self, model_input: list[float]) -> list[float]:
        return [2 * number for number in model_input]
set_model(Doubles())
"""

TIME = 1_700_000_000_000
RUN = Run(
    training_key="0123456789abcdef",
    name="doubles",
    params={"epochs": 2, "seed": 0},
    metrics=[Metric("accuracy", 0.98, TIME, 0), Metric("loss", 1.0, TIME, 1), Metric("loss", 0.5, TIME, 2)],
    files={"picture.png": b"\x89PNG"},
)


@pytest.fixture
def model(mlflow_registry: str) -> str:
    """The name of a registered model that only this test uses."""
    return mlflow_registry


@pytest.fixture
def write_files(tmp_path: Path) -> registry.WriteFiles:
    code = tmp_path / "code.py"
    code.write_text(CODE)

    def write(folder: Path, entry: Model) -> None:
        mlflow.pyfunc.save_model(folder, python_model=str(code), mlflow_model=entry, pip_requirements=[])

    return write


def versions(model: str) -> list[str]:
    return [one.version for one in MlflowClient().search_model_versions(f"name = '{model}'")]


def runs(model: str) -> Sequence[StoredRun]:
    client = MlflowClient()
    runs: Sequence[StoredRun] = client.search_runs([client.get_experiment_by_name(model).experiment_id])
    return runs


def test_there_is_no_champion_at_first(model: str) -> None:
    assert registry.champion_version(model) is None


def test_a_registered_version_is_loaded_with_its_code(model: str, write_files: registry.WriteFiles) -> None:
    version = registry.register(model, RUN, write_files)
    assert registry.load(model, version).predict([1.0, 2.0]) == [2.0, 4.0]


def test_a_version_has_its_training_key_and_other_tags(model: str, write_files: registry.WriteFiles) -> None:
    version = registry.register(model, RUN, write_files, {"as_of": "2013-04-29"})
    assert registry.tags(model, version) == {"training_key": RUN.training_key, "as_of": "2013-04-29"}


def test_parameters_metrics_and_files_are_in_the_run(model: str) -> None:
    registry.record(model, RUN)
    [run] = runs(model)
    client, run_id = MlflowClient(), run.info.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "doubles")
    assert run.data.params == {"epochs": "2", "seed": "0"}
    assert run.data.metrics["accuracy"] == 0.98
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "loss")] == [(1, 1.0), (2, 0.5)]
    assert [file.path for file in client.list_artifacts(run_id)] == ["picture.png"]
    assert versions(model) == []


def test_children_are_below_their_run_and_recorded_once(model: str, write_files: registry.WriteFiles) -> None:
    candidates = [Run(f"{number}" * 16, f"candidate {number}", {"number": number}, []) for number in (1, 2)]
    run = replace(RUN, children=candidates)
    registry.record(model, run)
    registry.register(model, run, write_files)
    by_name = {one.info.run_name: one for one in runs(model)}
    assert sorted(by_name) == ["candidate 1", "candidate 2", "doubles"]
    for child in ("candidate 1", "candidate 2"):
        assert by_name[child].data.tags[MLFLOW_PARENT_RUN_ID] == by_name["doubles"].info.run_id
        assert by_name[child].info.status == "FINISHED"


def test_the_same_training_key_is_registered_once(model: str, write_files: registry.WriteFiles) -> None:
    assert registry.register(model, RUN, write_files) == registry.register(model, RUN, write_files) == "1"
    assert versions(model) == ["1"]
    assert len(runs(model)) == 1


def test_another_training_key_becomes_another_version(model: str, write_files: registry.WriteFiles) -> None:
    registry.register(model, RUN, write_files)
    assert registry.register(model, replace(RUN, training_key="f" * 16), write_files) == "2"


def test_the_champion_moves_only_by_promotion(model: str, write_files: registry.WriteFiles) -> None:
    registry.promote(model, registry.register(model, RUN, write_files))
    assert registry.champion_version(model) == "1"
    registry.register(model, replace(RUN, training_key="f" * 16), write_files)
    assert registry.champion_version(model) == "1"
    registry.promote(model, "2")
    assert registry.champion_version(model) == "2"


def test_an_outage_of_the_object_store_leaves_a_failed_run_without_a_version_and_the_next_try_continues_it(
    model: str, write_files: registry.WriteFiles, s3: ThreadedMotoServer
) -> None:
    s3.stop()
    with pytest.raises(ServiceUnavailableError, match="Could not register the model"):
        registry.register(model, RUN, write_files)
    s3.start()
    assert versions(model) == []
    assert [run.info.status for run in runs(model)] == ["FAILED"]
    assert registry.register(model, RUN, write_files) == "1"
    assert [run.info.status for run in runs(model)] == ["FINISHED"]
    assert len(MlflowClient().get_metric_history(runs(model)[0].info.run_id, "loss")) == 2


def test_files_that_cannot_be_written_leave_a_failed_entry_without_a_version(model: str) -> None:
    def fail(_folder: Path, _entry: Any) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        registry.register(model, RUN, fail)
    assert versions(model) == []
    [run] = runs(model)
    assert run.info.status == "FAILED"
    [entry] = MlflowClient().search_logged_models([run.info.experiment_id])
    assert entry.status == "FAILED"


def test_a_server_that_is_down_gives_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer; check that"):
        registry.champion_version("any")


def test_an_unset_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(PermanentError, match="MLFLOW_TRACKING_URI is not set"):
        registry.champion_version("any")


def test_a_version_that_does_not_exist_is_named(model: str, write_files: registry.WriteFiles) -> None:
    registry.register(model, RUN, write_files)
    with pytest.raises(PermanentError, match="Could not load version 99"):
        registry.load(model, "99")


def test_the_files_of_a_version_can_be_downloaded(model: str, write_files: registry.WriteFiles) -> None:
    with registry.downloaded(model, registry.register(model, RUN, write_files)) as folder:
        assert (folder / "MLmodel").exists()
    assert not folder.exists()


@pytest.mark.parametrize("versions", [classifier_versions, delays_versions, answers_versions])
@pytest.mark.parametrize("image", ["ml", "serving"])
def test_the_images_of_tasks_and_of_the_server_have_what_a_version_needs(versions: Any, image: str) -> None:
    """The task that registers a version imports the code that serves it."""
    files = [(REPOSITORY / "requirements" / f"{name}.txt").read_text() for name in (image, "torch")]
    pinned = set(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==", "\n".join(files), re.MULTILINE))
    assert set(versions.REQUIREMENTS) <= pinned
