"""The steps of the DAGs, besides those of flight_model."""

import json
import logging
import os
import time
from datetime import date
from typing import Any

import sklearn
from airflow.sdk import Connection

from external_training import program
from external_training.outputs import Fetched, Job
from external_training.systems import SYSTEMS
from flight_model import models
from flight_model import steps as flight_steps
from flight_model.outputs import Choice, Compared, Fitted, Frozen
from flight_model.training_set import Split
from ml_common import content_keys, declarations
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

# The beginning of the names of jobs: that of the stack's resources on AWS.
PREFIX = "EXTERNAL_PREFIX"


def prepare(dag_id: str, frozen: Frozen, candidate: str, seed: int) -> Job:
    """Describe the job, and upload the program that it runs."""
    bucket, external = artifacts_bucket(), declarations.of(declarations.DAGS / dag_id)["external"]
    split = Split(date.fromisoformat(frozen["as_of"]), frozen["evaluation_days"])
    inputs = {
        **flight_steps.training_inputs(frozen, candidate, seed, split.evaluation_begins),
        "program": content_keys.code_version([program.DAGS / program.MAIN]),
        "system": external["backend"],
        "resources": SYSTEMS[external["backend"]].resources(external),
        # Stacks of one account may share the namespace of the jobs' names.
        "bucket": bucket.uri(""),
    }
    training_key = content_keys.content_key(inputs)
    return Job(
        name=f"{os.environ.get(PREFIX, 'airflow')}-{training_key}",
        training_key=training_key,
        training={"candidate": candidate, "seed": seed, "before": str(split.evaluation_begins)},
        inputs=inputs,
        flights=bucket.uri(frozen["training_set"]),
        program=program.upload(dag_id),
        output=bucket.uri(f"{dag_id}/jobs"),
    )


def request(dag_id: str, job: Job, run_id: str) -> dict[str, Any] | None:
    """Return the arguments of the operator that submits the job, or None if its model is already here."""
    if artifacts_bucket().exists(_record(dag_id, job)):
        log.info("The model of the job %s is already in the artifacts bucket.", job["name"])
        return None
    external = declarations.of(declarations.DAGS / dag_id)["external"]
    extra = Connection.get(external["connection"]).extra_dejson
    return SYSTEMS[external["backend"]].arguments(job, external, extra, run_id)


def fetch(dag_id: str, job: Job, result: Any) -> Fetched:
    """Check the model that the job wrote, and store it as flight_model stores its own.

    Raises:
        PermanentError: The file is not a model, or was written by another version of scikit-learn.
    """
    bucket = artifacts_bucket()
    if bucket.exists(_record(dag_id, job)):
        stored: Fetched = bucket.get_json(_record(dag_id, job))
        return stored
    external = declarations.of(declarations.DAGS / dag_id)["external"]
    finished = SYSTEMS[external["backend"]].finished(job, external, result)
    if finished.facts["scikit-learn"] != sklearn.__version__:
        raise PermanentError(
            f"The job {job['name']} used scikit-learn {finished.facts['scikit-learn']}, but models are evaluated and "
            f"served with {sklearn.__version__}: install that version where the job runs."
        )
    models.from_bytes(finished.model)
    fitted = Fitted(
        training_key=job["training_key"],
        candidate=job["training"]["candidate"],
        rows=finished.facts["rows"],
        seconds=finished.facts["seconds"],
        finished_at_ms=int(time.time() * 1000),
    )
    flight_steps.publish(fitted, job["inputs"], finished.model)
    fetched = Fetched(fitted=fitted, computing=finished.computing)
    bucket.put_json(_record(dag_id, job), fetched)
    log.info("Fetched the model: %s.", json.dumps(finished.computing))
    return fetched


def choice(fetched: Fetched) -> Choice:
    """Return the only candidate in the form of a choice among several."""
    compared: list[Compared] = []
    return Choice(candidate=fetched["fitted"]["candidate"], compared=compared, failed=[])


def _record(dag_id: str, job: Job) -> str:
    return f"{dag_id}/fetched/{job['training_key']}.json"
