"""The steps of the DAGs, in addition to those of flight_model."""

import json
import logging
import os
import time
from importlib.metadata import version
from typing import Any

from airflow.sdk import Connection

from external_training import program
from external_training.outputs import Fetched, Job
from external_training.systems import SYSTEMS
from flight_model import fitting, models
from flight_model.outputs import Choice, Compared, Fitted, Frozen
from ml_common import content_keys, declarations
from ml_common.errors import PermanentError
from ml_common.object_store import artifacts_bucket

log = logging.getLogger(__name__)

# The beginning of the names of jobs: that of the stack's resources on AWS.
PREFIX = "EXTERNAL_PREFIX"


def prepare(dag_id: str, frozen: Frozen, candidate: str, seed: int) -> Job:
    """Describe the job, and upload the program that it runs."""
    bucket, external = artifacts_bucket(), declarations.of(declarations.DAGS / dag_id)["external"]
    split = fitting.split_of(frozen)
    inputs = {
        **fitting.training_inputs(frozen, candidate, seed, split.evaluation_begins),
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


def request(dag_id: str, job: Job) -> dict[str, Any] | None:
    """Return the arguments of the operator that submits the job, or None if its model is already here."""
    if artifacts_bucket().exists(_record(dag_id, job)):
        log.info("The model of the job %s is already in the artifacts bucket.", job["name"])
        return None
    external = declarations.of(declarations.DAGS / dag_id)["external"]
    extra = Connection.get(external["connection"]).extra_dejson
    return SYSTEMS[external["backend"]].arguments(job, external, extra)


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
    finished = SYSTEMS[external["backend"]].finished(external, result)
    used, ours = finished.facts["scikit-learn"], version("scikit-learn")
    if used != ours:
        raise PermanentError(
            f"The job {job['name']} used scikit-learn {used}, but models are evaluated and served with {ours}: "
            "install that version where the job runs."
        )
    models.from_bytes(finished.model)
    fitted = Fitted(
        training_key=job["training_key"],
        candidate=job["training"]["candidate"],
        rows=finished.facts["rows"],
        seconds=finished.facts["seconds"],
        finished_at_ms=int(time.time() * 1000),
    )
    fitting.publish(fitted, job["inputs"], finished.model)
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
