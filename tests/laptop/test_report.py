"""Tests of the output of `make up` after a successful run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from moto.server import ThreadedMotoServer

from ops.airflow_api import AirflowApi, Task
from ops.console import new_console
from ops.laptop import object_store, report
from ops.laptop.home import Home
from ops.laptop.laptop import Laptop
from ops.laptop.ports import PREFERRED
from ops.laptop.report import Stages

REPORT = {
    "accuracy": 0.987,
    "device": "cpu",
    "quarantined": {"[empty]": 2},
    "promoted": False,
    "reason": "the [champion] is better",
    "model_uri": "s3://airflow-artifacts/model",
    "model_name": "image_classifier",
    "version": "2",
    "champion_version": "1",
    "endpoint": "http://127.0.0.1:8000",
    "confusion_matrix": "confusion.png",
    "predictions": "predictions.png",
    "per_class": {"cat [adult] :smile:": {"precision": 1, "recall": 1, "f1": 1, "images": 3}},
}


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    yield int(moto.get_host_and_port()[1])
    moto.stop()


@pytest.fixture
def machine(tmp_path: Path, s3_port: int) -> Laptop:
    home = Home(tmp_path / "team [ml]" / "home")
    home.create()
    return Laptop(home, {**PREFERRED, "s3": s3_port})


def shown(machine: Laptop, capsys: pytest.CaptureFixture[str], key: str = "images/cats/cat/1.png") -> str:
    """Print the report of a run on one image with the given key."""
    prefix = "/".join(key.split("/")[:2]) + "/"
    files = {key: b"an image"}
    for entry in ("confusion.png", "predictions.png"):
        files[entry] = b"a picture"
    files["report.json"] = json.dumps({**REPORT, "prefix": prefix}).encode()
    s3 = machine.s3
    for bucket in object_store.BUCKETS.values():
        s3.create_bucket(Bucket=bucket)
        for name, content in files.items():
            s3.put_object(Bucket=bucket, Key=name, Body=content)
    api = cast(AirflowApi, SimpleNamespace(result=lambda *_: "report.json"))
    tasks = [Task("train", "success", 1, 2.5)]
    report.show(new_console(soft_wrap=True), machine, api, "manual__1", tasks, Stages())
    return capsys.readouterr().out


def test_text_is_printed_unchanged_and_not_parsed_as_markup(
    machine: Laptop, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shown(machine, capsys)
    for text in ("cat [adult] :smile:", "2 [empty]", "the [champion] is better", str(machine.home.results)):
        assert text in output


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("images/data.v2-1a2b/cat/001", "example"),
        ("images/data.v3/cat.d/001", "example"),
        ("images/data.v4/cat/001.tar.png", "example.png"),
        (f"images/long/cat/1.{'x' * 250}", f"example.{'x' * 15}"),
        ("images/hidden/cat/.png", "example"),
    ],
)
def test_the_example_has_the_suffix_of_the_images_name_and_of_no_folder(
    machine: Laptop, capsys: pytest.CaptureFixture[str], key: str, name: str
) -> None:
    assert f"image=@{machine.home.results / name}" in shown(machine, capsys, key)
    assert (machine.home.results / name).read_bytes() == b"an image"


def test_output_in_a_pipe_has_the_login_command_instead_of_the_password(
    machine: Laptop, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shown(machine, capsys)
    assert not [secret for secret in machine.home.secrets.__dict__.values() if secret in output]
    assert f"LAPTOP_HOME='{machine.home.root}' make login" in output


def test_output_on_a_terminal_has_the_password(
    machine: Laptop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output = shown(machine, capsys)
    assert f"user admin, password {machine.home.secrets.admin}" in output
    assert "make login" not in output
