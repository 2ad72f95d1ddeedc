"""Training jobs of moto's SageMaker that run: the command of a job's container, in this machine's Python.

moto itself completes a job at once and writes nothing. Here a job reads its channels from the S3 server and writes its
archive there, in the folders that SageMaker gives to a container.
"""

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.sagemaker import models

MOUNT = "/opt/ml"
# Long enough that a task sees the job before it ends.
START_SECONDS = 2
COMPLETED = models.FakeTrainingJob


class RunningJob(COMPLETED):  # type: ignore[misc,valid-type] # moto has no types
    """A training job whose container runs."""

    def __init__(self, **arguments: Any) -> None:
        """Start the container in a thread."""
        super().__init__(**arguments)
        self.training_job_status = self.secondary_status = "InProgress"
        Thread(target=self._run).start()

    def _run(self) -> None:
        started = time.monotonic()
        with TemporaryDirectory() as folder:
            mount = Path(folder)
            for channel in self.input_data_config:
                self._download(
                    channel["DataSource"]["S3DataSource"]["S3Uri"], mount / "input/data" / channel["ChannelName"]
                )
            (mount / "model").mkdir()
            command = [
                part.replace(MOUNT, folder)
                for name in ("ContainerEntrypoint", "ContainerArguments")
                for part in self.algorithm_specification[name]
            ]
            done = subprocess.run(
                [sys.executable, *command[1:]],
                cwd=mount,
                env={"PATH": os.environ["PATH"]},
                check=False,
                capture_output=True,
                text=True,
            )
            time.sleep(START_SECONDS)
            if done.returncode:
                self.failure_reason = f"AlgorithmError: {done.stderr.splitlines()[-1]}"
                self.training_job_status = self.secondary_status = "Failed"
                return
            archive = mount / "model.tar.gz"
            with tarfile.open(archive, "w:gz") as target:
                target.add(mount / "model", ".")
            bucket, _, key = self.model_artifacts["S3ModelArtifacts"].removeprefix("s3://").partition("/")
            boto3.client("s3").upload_file(str(archive), bucket, key)
        self.billable_time_in_seconds = round(time.monotonic() - started)
        self.training_job_status = self.secondary_status = "Completed"

    def _download(self, address: str, folder: Path) -> None:
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        folder.mkdir(parents=True)
        s3 = boto3.client("s3")
        for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            s3.download_file(bucket, entry["Key"], str(folder / entry["Key"].rpartition("/")[2]))


@contextmanager
def running() -> Iterator[None]:
    """Let the training jobs of moto run until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "FakeTrainingJob", RunningJob)
        yield
