"""`make up ZENML=1`: a ZenML pipeline runs in Airflow, in a separate home and on separate ports."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra import mlflow_users
from ops.airflow_api import AirflowApi
from ops.laptop import mlflow, object_store, ports, processes, zenml, zenml_demo
from ops.laptop.home import Home, write_atomically
from ops.laptop.laptop import Laptop

PORTS = 23000
MINUTES = 15
PIPELINE = zenml_demo.PIPELINE
STEPS = ("load", "train_logistic", "train_boosting", "evaluate")
# An API key of ZenML's, and a JSON Web Token.
CREDENTIAL = re.compile(rb"ZENKEY_|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")


def ops(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ops", *arguments, "--home", str(home.root)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=MINUTES * 60)


@pytest.fixture(scope="module")
def home(zenml_is_installed: None) -> Iterator[Home]:
    folder = Path(tempfile.mkdtemp(prefix="zenml-"))  # pytest's folder is closed to other users
    home = Home(folder / "home")
    home.create()
    own: dict[str, int] = {}
    for name in (*ports.PREFERRED, *ports.ZENML):
        own[name] = processes.free_port(PORTS, set(own.values()))
    write_atomically(home.root / "ports.json", json.dumps(own))
    yield home
    ops(home, "clean")
    folder.rmdir()


@pytest.fixture(scope="module")
def machine(home: Home) -> Laptop:
    """The laptop after `make up ZENML=1`."""
    done = ops(home, "up", "--zenml")
    assert done.returncode == 0, done.stderr + done.stdout
    assert not CREDENTIAL.search((done.stdout + done.stderr).encode())
    return Laptop.known(home)


@pytest.fixture(scope="module")
def api(machine: Laptop) -> AirflowApi:
    return machine.api()


@pytest.fixture(scope="module")
def started(api: AirflowApi) -> Any:
    """What `start_run` returned in the newest run."""
    return api.result(PIPELINE, str(api.newest_run(PIPELINE)), "start_run")


def zenml_run(machine: Laptop, run: str) -> Any:
    """Return a run as ZenML's API shows it."""
    with httpx.Client(base_url=f"{zenml.url(machine.ports)}/api/v1", timeout=30, trust_env=False) as client:
        login = {"username": zenml.ADMIN, "password": machine.home.secrets.zenml_admin}
        token = client.post("/login", data=login).raise_for_status().json()["access_token"]
        answer = client.get(f"/runs/{run}", headers={"Authorization": f"Bearer {token}"})
        return answer.raise_for_status().json()


def contents(machine: Laptop, bucket: str, prefix: str) -> dict[str, bytes]:
    pages = machine.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {key: machine.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_the_run_is_completed_and_has_the_same_id_in_zenml_and_in_airflow(
    machine: Laptop, api: AirflowApi, started: Any
) -> None:
    run = str(api.newest_run(PIPELINE))
    assert api.run_state(PIPELINE, run) == "success"
    found = zenml_run(machine, started["run"])
    assert found["body"]["status"] == "completed"
    assert found["metadata"]["orchestrator_run_id"] == run == started["airflow_run"]
    assert api.result(PIPELINE, run, "finish_run")["steps"] == dict.fromkeys(STEPS, "completed")


def test_artifacts_are_in_s3_and_metrics_in_mlflow(machine: Laptop) -> None:
    keys = contents(machine, object_store.BUCKETS["artifacts"], "zenml/")
    assert {key.split("/")[1] for key in keys} >= set(STEPS)
    with httpx.Client(
        base_url=f"{mlflow.url(machine.ports)}/api/2.0/mlflow",
        auth=(mlflow_users.ADMIN, machine.home.secrets.mlflow_admin),
        trust_env=False,
    ) as client:
        found = client.get("/experiments/get-by-name", params={"experiment_name": PIPELINE}).raise_for_status().json()
        search = {"experiment_ids": [found["experiment"]["experiment_id"]]}
        [run] = client.post("/runs/search", json=search).raise_for_status().json()["runs"]
    metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    assert metrics["auc"] > 0.6


def test_no_credential_is_in_a_file_a_log_a_result_or_a_bucket(machine: Laptop, api: AirflowApi) -> None:
    run = str(api.newest_run(PIPELINE))
    results = [api.result(PIPELINE, run, task) for task in ("start_run", *STEPS, "finish_run")]
    files = {file: file.read_bytes() for file in machine.home.logs.rglob("*") if file.is_file()}
    objects = contents(machine, object_store.BUCKETS["artifacts"], "zenml/")
    logs = contents(machine, object_store.BUCKETS["logs"], "")
    assert logs
    assert not CREDENTIAL.search(json.dumps(results).encode())
    for found in (files, objects, logs):
        assert not [name for name, content in found.items() if CREDENTIAL.search(content)]


def test_a_step_that_cannot_succeed_is_not_retried_and_ends_the_run_on_both_sides(
    machine: Laptop, api: AirflowApi
) -> None:
    done = ops(machine.home, "run", PIPELINE, "--params", "last=2013-02-01")
    assert done.returncode == 1
    assert "The features of 2013-02-01 are not published: run flight_features for this day first." in done.stderr
    run = str(api.newest_run(PIPELINE))
    [load] = [task for task in api.tasks(PIPELINE, run) if task.task_id == "load"]
    assert (load.state, load.tries) == ("failed", 1)
    found = zenml_run(machine, api.result(PIPELINE, run, "start_run")["run"])
    assert found["body"]["status"] == "failed"
    assert found["metadata"]["orchestrator_run_id"] == run


def test_the_server_is_among_the_services_and_listens_on_the_loopback_address_only(machine: Laptop) -> None:
    assert re.search(r"^zenml +\d+ +\d+ +healthy", ops(machine.home, "status").stdout, re.MULTILINE)
    sockets = [
        socket.laddr
        for member in processes.records(machine.home)["zenml"].members()
        for socket in member.net_connections("inet")
        if socket.status == "LISTEN"
    ]
    assert sockets == [("127.0.0.1", machine.ports["zenml"])]
