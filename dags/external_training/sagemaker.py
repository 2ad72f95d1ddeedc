"""Training jobs of Amazon SageMaker.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

import io
import json
import tarfile
from typing import Any

from external_training.fit import FACTS, MODEL
from external_training.outputs import Job
from external_training.system import External, Finished, field
from flight_model.outputs import Computing
from ml_common.image_names import full_name
from ml_common.object_store import artifacts_bucket

# Where SageMaker mounts channels, and takes the model from:
# https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
INPUT = "/opt/ml/input/data"
OUTPUT = "/opt/ml/model"
ROLE = "execution_role"
IMAGE = "ml"
POLL_SECONDS = 30
VOLUME_GB = 30
# SageMaker starts and removes the instance: time that the limit of the job does not contain.
START_MINUTES = 30


class SageMaker:
    """Fits the model with the image of the DAG's own tasks, so with the same libraries."""

    def resources(self, external: External) -> str:
        """Return the type of the instance."""
        return f"one {external['instance_type']}"

    def arguments(self, job: Job, external: External, extra: External, /) -> dict[str, Any]:
        """Return the arguments of the operator of sagemaker_operator.py."""
        seconds = (external["max_minutes"] + START_MINUTES) * 60
        return {
            "aws_conn_id": external["connection"],
            "config": training_job(job, external, field(extra, ROLE, external["connection"], "IAM role")),
            "wait_for_completion": False,
            # With it, the provider waits in the task.
            "print_log": False,
            "check_interval": POLL_SECONDS,
            "max_ingestion_time": seconds,
        }

    def finished(self, external: External, result: Any, /) -> Finished:
        """Return the model in the job's archive, and the seconds that are billed."""
        found = result["Training"]
        seconds = float(found["BillableTimeInSeconds"])
        files = _unpacked(found["ModelArtifacts"]["S3ModelArtifacts"])
        computing = Computing(
            system="Amazon SageMaker",
            job=found["TrainingJobName"],
            resources=self.resources(external),
            seconds=seconds,
            usd=seconds / 3600 * external["usd_per_hour"],
        )
        return Finished(files[MODEL], json.loads(files[FACTS]), computing)


def training_job(job: Job, external: External, role: str) -> dict[str, Any]:
    """Return the request that starts a job."""
    channels = {"flights": job["flights"], "program": job["program"]}
    flights, program = (f"{INPUT}/{name}/{address.rpartition('/')[2]}" for name, address in channels.items())
    training = json.dumps(job["training"], sort_keys=True)
    return {
        "TrainingJobName": job["name"],
        "AlgorithmSpecification": {
            "TrainingImage": full_name(IMAGE),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", program],
            "ContainerArguments": [flights, OUTPUT, training],
        },
        "RoleArn": role,
        # The program uses only what SageMaker mounts: it gets neither a network nor the role's credentials.
        "EnableNetworkIsolation": True,
        "InputDataConfig": [_channel(name, address) for name, address in channels.items()],
        "OutputDataConfig": {"S3OutputPath": job["output"]},
        "ResourceConfig": {
            "InstanceType": external["instance_type"],
            "InstanceCount": 1,
            "VolumeSizeInGB": VOLUME_GB,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": external["max_minutes"] * 60},
    }


def _channel(name: str, address: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": address, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _unpacked(address: str) -> dict[str, bytes]:
    """Return the files in the archive of a model, by name."""
    bucket = artifacts_bucket()
    content = bucket.get(address.removeprefix(bucket.uri("")))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {
            member.name.removeprefix("./"): file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
