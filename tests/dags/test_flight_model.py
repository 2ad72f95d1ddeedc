"""The steps of the DAG flight_model with real flights, a real PostgreSQL, a real S3 server and a real MLflow server."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from copy import copy
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from flight_features.columns import COLUMNS, FEATURES, TARGET
from flight_model import candidates, evaluation, fitting, gate, models, steps, training_set, versions
from flight_model.outputs import Decision, Registration
from infra.documents import REPOSITORY
from ml_common import registry
from ml_common.errors import PermanentError
from ml_common.object_store import Bucket
from tests.dags.conftest import Gauges, drop_all, make_bucket, publish_year, running_s3

APRIL = "2013-04-29"
AUGUST = "2013-08-01"
LAST = date(2013, 7, 31)
SEED = 0

APPROVED = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ada"}}
REJECTED = {"chosen_options": ["Reject"], "responded_by_user": {"id": "1", "name": "ada"}}
UNANSWERED = {"chosen_options": ["Reject"], "responded_by_user": None}


@pytest.fixture(scope="module")
def s3(s3_port: int) -> Iterator[ThreadedMotoServer]:
    """The S3 server, with its data for all tests of this module: a model is fitted once."""
    with running_s3(s3_port) as server:
        yield server


@pytest.fixture(scope="module")
def artifacts(s3: ThreadedMotoServer) -> Iterator[Bucket]:
    bucket = make_bucket(f"artifacts-{uuid4().hex}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTS_BUCKET", bucket.name)
        yield bucket


@pytest.fixture(scope="module")
def features(feature_server: str, year: bytes, artifacts: Bucket) -> Iterator[psycopg.Connection]:
    """The feature store with the flights of January to July."""
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(feature_server, autocommit=True) as connection:
        patch.setenv("AIRFLOW_CONN_FEATURES", feature_server)
        publish_year(connection, year, LAST)
        yield connection
        drop_all(connection)


@pytest.fixture(autouse=True)
def registered_model(mlflow_registry: str, features: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered model that only this test uses."""
    monkeypatch.setattr(versions, "MODEL_NAME", mlflow_registry)
    monkeypatch.setattr(evaluation, "SAMPLE", 300)
    return mlflow_registry


class Trained:
    """The outputs of the steps up to the gate."""

    def __init__(self, as_of: str, names: list[str] = candidates.NAMES, seed: int = SEED) -> None:
        self.frozen = fitting.freeze(as_of, [], 28)
        self.choice = fitting.choose([fitting.train(self.frozen, name, seed) for name in names])
        self.fitted = fitting.refit(self.frozen, self.choice, seed)
        self.evaluated = steps.evaluate(self.frozen, self.choice, self.fitted, seed)

    def decide(self, minimum_auc: float = 0.65) -> Decision:
        return gate.decide(self.frozen, self.evaluated, minimum_auc)

    def register(self, approval: Any = None) -> Registration:
        return steps.register(self.frozen, self.choice, self.fitted, self.evaluated, approval)

    def card(self, approval: Any = None, registered: Registration | None = None) -> dict[str, Any]:
        """Write the card, and return its JSON."""
        key = steps.write_card(
            self.frozen, self.choice, self.fitted, self.evaluated, self.decide(), approval, registered
        )
        found: dict[str, Any] = Bucket(artifacts_name()).get_json(key.replace("html", "json"))
        return found


@cache
def april(*names: str) -> Trained:
    """A training as of April without a champion, for the tests of what follows."""
    return Trained(APRIL, list(names or candidates.NAMES))


def artifacts_name() -> str:
    return os.environ["ARTIFACTS_BUCKET"]


def champion() -> str | None:
    return registry.champion_version(versions.MODEL_NAME)


def run(name: str) -> Any:
    """Return the run in MLflow of a training, or of a candidate."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(versions.MODEL_NAME)
    [found] = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return found


def test_the_training_set_has_all_flights_before_the_day_and_a_hash_of_them(
    features: psycopg.Connection, artifacts: Bucket
) -> None:
    frozen = fitting.freeze(APRIL, [], 28)
    [count] = features.execute("SELECT count(*) FROM flight_features WHERE day < %s", [APRIL]).fetchone() or [0]
    assert (frozen["rows"], frozen["days"], frozen["first"], frozen["last"]) == (count, 118, "2013-01-01", "2013-04-28")
    stored = parquet.read_table(io.BytesIO(artifacts.get(frozen["training_set"]))).to_pandas()
    assert list(stored.columns) == list(COLUMNS)
    assert len(stored) == count
    assert stored[TARGET].sum() == frozen["late"]
    assert frozen["sha256"][:16] in frozen["training_set"]
    assert fitting.freeze(APRIL, [], 28) == frozen


def test_a_changed_row_gives_another_training_set_and_leaves_the_old_one(
    features: psycopg.Connection, artifacts: Bucket
) -> None:
    before = fitting.freeze(APRIL, [], 28)
    one = "(day, carrier, flight, scheduled_departure) = (SELECT day, carrier, flight, scheduled_departure FROM "
    where = one + "flight_features ORDER BY day, carrier, flight, scheduled_departure LIMIT 1)"
    features.execute(f"UPDATE flight_features SET distance = distance + 1 WHERE {where}")
    after = fitting.freeze(APRIL, [], 28)
    features.execute(f"UPDATE flight_features SET distance = distance - 1 WHERE {where}")
    assert after["sha256"] != before["sha256"]
    assert artifacts.exists(before["training_set"])
    assert fitting.freeze(APRIL, [], 28) == before


def test_the_day_is_the_param_or_the_one_requested_last_or_after_the_last_published() -> None:
    requests = [{"as_of": "2013-06-01"}, {"as_of": "2013-08-01"}]
    assert training_set.as_of("2013-05-01", requests) == date(2013, 5, 1)
    assert training_set.as_of(None, requests) == date(2013, 8, 1)
    assert training_set.as_of(None, []) == date(2013, 8, 1)


def test_missing_days_are_named(features: psycopg.Connection) -> None:
    with pytest.raises(PermanentError, match=r"^No day before 2013-01-01 is published: run flight_features for at le"):
        fitting.freeze("2013-01-01", [], 28)
    with pytest.raises(PermanentError, match=r"^83 days before 2013-03-25 are published instead of at least 84, 3 ti"):
        fitting.freeze("2013-03-25", [], 28)
    with pytest.raises(
        PermanentError,
        match=r"^4 of the 216 days from 2013-01-01 to 2013-08-04 are not published "
        r"\(2013-08-01, 2013-08-02, 2013-08-03 and 1 more\): run flight_features for them, or start a r",
    ):
        fitting.freeze("2013-08-05", [], 28)


def test_without_a_feature_table_the_error_says_which_dag_to_run(
    features: psycopg.Connection, feature_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FEATURES", f"{feature_server}?options=-csearch_path%3Dnone")
    with pytest.raises(PermanentError, match=r"^No day is published: run flight_features first\.$"):
        fitting.freeze(None, [], 28)


def test_the_file_of_a_frozen_set_is_read_by_days() -> None:
    frozen = fitting.freeze(APRIL, [], 28)
    found = training_set.read(frozen["training_set"], date(2013, 4, 1), date(2013, 4, 3))
    assert {str(day) for day in found["day"]} == {"2013-04-01", "2013-04-02"}
    assert (found.dtypes[list(FEATURES)] == "float64").all()


def test_the_split_uses_each_day_once() -> None:
    split = training_set.Split(date(2013, 4, 29), 28)
    assert (split.choice_begins, split.evaluation_begins) == (date(2013, 3, 4), date(2013, 4, 1))


def test_trained_on_january_to_march_the_auc_of_april_is_as_measured_and_logistic_is_below_boosting(
    gauges: Gauges,
) -> None:
    trained = Trained(APRIL)
    auc = trained.evaluated["metrics"]["auc"]
    assert gauges() == {f"airflow.ml.auc,dag_id=flight_model,model={versions.MODEL_NAME}": auc}
    assert trained.choice["candidate"] in candidates.BOOSTING
    assert (trained.evaluated["first"], trained.evaluated["last"]) == ("2013-04-01", "2013-04-28")
    assert 0.70 <= trained.evaluated["metrics"]["auc"] <= 0.72
    logistic = fitting.refit(trained.frozen, {**trained.choice, "candidate": candidates.LOGISTIC}, SEED)
    flights = training_set.read(trained.frozen["training_set"], date(2013, 4, 1))
    baseline = evaluation.measure(
        flights[TARGET], models.probabilities(fitting.model_of(logistic), flights[list(FEATURES)])
    )
    assert baseline["auc"] < trained.evaluated["metrics"]["auc"] - 0.02
    assert trained.fitted["rows"] == len(training_set.read(trained.frozen["training_set"], before=date(2013, 4, 1)))


@pytest.mark.parametrize("name", ["logistic", "boosting", "boosting_sampled"])
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    frozen = fitting.freeze(APRIL, [], 28)
    flights = training_set.read(frozen["training_set"], before=date(2013, 1, 8))
    features, late = flights[list(FEATURES)], flights[TARGET]
    first = models.to_bytes(models.fit(name, SEED, features, late))
    elsewhere = [object() for _ in range(1000)]  # moves the second model to other addresses
    second = models.fit(name, SEED, features, late)
    assert models.to_bytes(second) == first
    assert elsewhere
    restored = models.from_bytes(first)
    assert (models.probabilities(restored, features) == models.probabilities(second, features)).all()
    assert models.to_bytes(models.fit(name, SEED, features, ~late)) != first


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(
        PermanentError, match=r"^The file is not a model of flight_model \(BadZipFile: .*delete its folder"
    ):
        models.from_bytes(b"something else")


def test_a_candidate_that_was_fitted_is_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = fitting.freeze(APRIL, [], 28)
    first = fitting.train(frozen, candidates.LOGISTIC, SEED)
    monkeypatch.setattr(models, "fit", None)
    assert fitting.train(frozen, candidates.LOGISTIC, SEED) == first


def test_a_candidate_that_fails_does_not_stop_the_others() -> None:
    frozen = fitting.freeze(APRIL, [], 28)
    choice = fitting.choose([fitting.train(frozen, name, SEED) for name in (candidates.LOGISTIC, "boosting_sampled")])
    assert choice["candidate"] == "boosting_sampled"
    assert choice["failed"] == ["boosting", "boosting_slow"]


def test_only_without_any_candidate_the_choice_fails() -> None:
    with pytest.raises(PermanentError, match=r"^All candidates failed: see the logs of the task train\.$"):
        fitting.choose([])


def test_a_training_is_one_run_in_mlflow_with_a_run_of_each_candidate_below_it() -> None:
    trained = Trained(APRIL)
    parent = run(f"{APRIL} {trained.choice['candidate']}")
    assert parent.data.tags["training_key"] == trained.fitted["training_key"]
    assert parent.data.metrics["auc"] == trained.evaluated["metrics"]["auc"]
    assert parent.data.params["training_set"] == trained.frozen["training_set"]
    for compared in trained.choice["compared"]:
        child = run(compared["candidate"])
        assert child.data.tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id
        assert child.data.metrics["auc"] == compared["auc"]
    pictures = [file.path for file in MlflowClient().list_artifacts(parent.info.run_id)]
    assert sorted(pictures) == sorted(steps.PICTURES)


def test_the_first_champion_is_replaced_by_a_better_one_and_the_same_data_change_nothing() -> None:
    first = april()
    assert first.decide()["reason"].endswith("and there was no champion.")
    assert gate.next_task(first.evaluated, first.decide()) == "register"
    assert steps.promote(first.register()) == champion() == "1"
    tags = registry.tags(versions.MODEL_NAME, "1")
    assert tags == {
        "training_key": first.fitted["training_key"],
        "training_set": first.frozen["training_set"],
        "as_of": APRIL,
    }

    august = Trained(AUGUST, [candidates.LOGISTIC, "boosting"])
    assert (august.evaluated["first"], august.evaluated["last"]) == ("2013-07-04", "2013-07-31")
    before = august.evaluated["champion_metrics"]
    assert before
    assert august.evaluated["metrics"]["auc"] >= 0.75
    assert august.evaluated["metrics"]["auc"] > before["auc"] + 0.03
    assert before["brier_skill"] < 0.05 < august.evaluated["metrics"]["brier_skill"]
    assert august.decide()["promote"]
    assert steps.promote(august.register()) == champion() == "2"

    again = Trained(AUGUST, [candidates.LOGISTIC, "boosting"])
    assert again.fitted == august.fitted
    assert again.evaluated["is_champion"]
    assert again.decide()["reason"].startswith("The model is version 2, which is the champion: the same flights and ")
    assert gate.next_task(again.evaluated, again.decide()) is None
    assert again.register()["version"] == "2"

    older = Trained(AUGUST, [candidates.LOGISTIC])
    assert not older.decide()["promote"]
    assert gate.next_task(older.evaluated, older.decide()) == "card"
    assert older.card()["decision"] == older.decide()["reason"]
    assert "of version 2 on the same evaluation days, so that version stays champion" in older.decide()["reason"]


def test_a_model_below_the_minimum_fails_the_run_and_the_champion_stays() -> None:
    steps.promote(april().register())
    with pytest.raises(
        PermanentError,
        match=r"^AUC 0\.6\d+ on the evaluation days is below minimum_auc 0\.9900, so the "
        r"model is not registered and version 1 keeps serving: look at the pictures of its evaluation",
    ):
        Trained(APRIL, [candidates.LOGISTIC]).decide(0.99)
    assert champion() == "1"


def test_a_person_is_asked_where_the_stack_requires_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = april(candidates.LOGISTIC)
    monkeypatch.setenv("MODEL_APPROVAL", "required")
    decision = trained.decide()
    assert gate.next_task(trained.evaluated, decision) == "approval"
    assert f"| new model | {trained.evaluated['metrics']['auc']:.4f} |" in decision["summary"]
    assert trained.evaluated["folder"] in decision["summary"]
    registered = trained.register(APPROVED)
    assert registered["approved_by"] == registry.tags(versions.MODEL_NAME, "1")["approved_by"] == "ada"
    card = trained.card(APPROVED, registered)
    assert (card["approved_by"], card["version"]) == ("ada", "1")
    assert card["decision"].startswith("Version 1 became the champion. AUC 0.6")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (REJECTED, "ada rejected the model, so version 1 stays champion."),
        (UNANSWERED, "The model was not approved in time, so version 1 stays champion."),
    ],
    ids=["rejected", "unanswered"],
)
def test_the_card_of_a_model_that_nobody_approved_says_so(answer: dict[str, Any], sentence: str) -> None:
    trained = copy(april(candidates.LOGISTIC))
    trained.evaluated = {**trained.evaluated, "champion_version": "1"}
    assert trained.card(answer)["decision"] == sentence
    assert MlflowClient().search_model_versions(f"name = '{versions.MODEL_NAME}'") == []


def test_the_card_is_a_page_without_external_files_and_json_in_the_bucket_and_in_mlflow(artifacts: Bucket) -> None:
    trained = april()
    card = trained.card(None, trained.register())
    folder = f"{fitting.MODELS}{trained.fitted['training_key']}/"
    page = artifacts.get(folder + "card.html").decode()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="http' not in page
    for text in (trained.frozen["sha256"], "boosting_slow", "Model card of flight_delays, version 1"):
        assert text in page
    assert card["training_set"]["sha256"] == trained.frozen["sha256"]
    assert {one["candidate"] for one in card["candidates"]} == set(candidates.NAMES)
    assert sum(one["count"] for one in card["evaluation"]["calibration"]["new model"]) == trained.evaluated["rows"]
    assert set(card["evaluation"]["importance"]) == set(FEATURES)
    stored = MlflowClient().list_artifacts(run(f"{APRIL} {trained.choice['candidate']}").info.run_id)
    assert {"card.html", "card.json"} <= {file.path for file in stored}
    described = MlflowClient().get_model_version(versions.MODEL_NAME, "1").description
    for text in (card["decision"], card["intended_use"], card["limits"][0], trained.frozen["sha256"]):
        assert text in described
    assert f"| new model | {trained.evaluated['metrics']['auc']:.4f} | " in described


def test_a_registered_version_predicts_as_the_evaluated_model_and_takes_missing_features() -> None:
    trained = april(candidates.LOGISTIC)
    version = trained.register()["version"]
    flights = training_set.read(trained.frozen["training_set"], date(2013, 4, 28))[list(FEATURES)]
    flights.loc[flights.index[0]] = None
    loaded = registry.load(versions.MODEL_NAME, version)
    assert (loaded.predict(flights) == models.probabilities(fitting.model_of(trained.fitted), flights)).all()


# Serves a version as the pod does, without the code of a checkout.
SERVE = """
import sys
import serving
sys.argv = ["serving", "--port", "0", "--model", sys.argv[1], "--version", "1"]
serving.main()
"""


def test_the_model_server_answers_rows_of_features_with_a_probability_for_each(tmp_path: Path) -> None:
    trained = april()
    trained.register()
    flights = training_set.read(trained.frozen["training_set"], date(2013, 4, 28))[list(FEATURES)].head(5)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "images" / "serving")}
    command = [sys.executable, "-c", SERVE, versions.MODEL_NAME]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            address = server.stdout.readline().split()[-1]
            rows = json.loads(flights.to_json(orient="records"))
            rows[0]["temperature"] = None
            answer = httpx.post(f"{address}/predict", json={"dataframe_records": rows}, trust_env=False)
            incomplete = httpx.post(
                f"{address}/predict", json={"dataframe_records": [{"distance": 1}]}, trust_env=False
            )
        finally:
            server.terminate()
    assert answer.status_code == 200, answer.text
    flights.loc[flights.index[0], "temperature"] = None
    expected = models.probabilities(fitting.model_of(trained.fitted), flights)
    assert answer.json()["predictions"] == pytest.approx(expected.tolist())
    assert incomplete.status_code == 422
    assert incomplete.json()["detail"].startswith("Failed to enforce schema")
