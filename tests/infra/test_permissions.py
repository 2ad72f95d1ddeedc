"""The IAM policies, evaluated by moto: it checks actions and resources as IAM does, but ignores conditions.

The conditions (listing by prefix, using the key only through S3) are tested in `test_aws_decisions`.
"""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from ops.plan.resources import Recording

from .iam_cloud import DELETE, PLACES, READ, WRITE, Cloud, cloud_of

# (bucket, prefix): the actions allowed on these objects. All others are denied.
ALLOWED: dict[str, dict[tuple[str, str], set[str]]] = {
    "airflow-scheduler": {},
    "airflow-dag-processor": {},
    "airflow-api-server": {("logs", "airflow/"): {READ}},
    "airflow-triggerer": {("logs", "airflow/"): {READ, WRITE}},
    "dag-image-classifier": {
        ("data", "image_classifier/"): {READ, WRITE, DELETE},
        ("data", "images/"): {READ, WRITE, DELETE},
        ("data", "quarantine/"): {READ, WRITE, DELETE},
        ("artifacts", "image_classifier/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-docs-assistant": {
        ("data", "docs_assistant/"): {READ, WRITE, DELETE},
        ("data", "docs_index/"): {READ},
        ("artifacts", "docs_assistant/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-docs-index": {
        ("data", "docs_index/"): {READ, WRITE, DELETE},
        ("artifacts", "docs_index/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-flight-features": {
        ("data", "flight_features/"): {READ, WRITE, DELETE},
        ("data", "flight_features/raw/"): {READ, WRITE, DELETE},
        ("artifacts", "flight_features/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-flight-scores": {
        ("data", "flight_scores/"): {READ, WRITE, DELETE},
        ("artifacts", "flight_scores/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-flight-monitor": {
        ("data", "flight_features/raw/"): {READ, WRITE, DELETE},
        ("data", "flight_monitor/"): {READ, WRITE, DELETE},
        ("artifacts", "flight_model/"): {READ},
        ("artifacts", "flight_monitor/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "dag-flight-model": {
        ("data", "flight_model/"): {READ, WRITE, DELETE},
        ("artifacts", "flight_model/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    # Without the connection to SageMaker, nothing but the buckets.
    "dag-external-training-sagemaker": {
        ("data", "external_training_sagemaker/"): {READ, WRITE, DELETE},
        ("artifacts", "external_training_sagemaker/"): {READ, WRITE, DELETE},
        ("artifacts", "flight_model/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    # A DAG without dag.yaml.
    "dag-smoke-test": {
        ("data", "smoke_test/"): {READ, WRITE, DELETE},
        ("artifacts", "smoke_test/"): {READ, WRITE, DELETE},
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    # A DAG that was pushed after the deployment.
    "airflow-task": {
        ("artifacts", "mlflow/"): {READ, WRITE},
        ("logs", "airflow/"): {READ, WRITE},
    },
    "mlflow": {("artifacts", "mlflow/"): {READ, WRITE, DELETE}},
    "serving": {("artifacts", "mlflow/"): {READ}},
}


@pytest.fixture(scope="module")
def cloud(prod: Recording) -> Iterator[Cloud]:
    with cloud_of(prod, ALLOWED) as made:
        yield made


# In this order, so that objects exist before they are read or deleted.
@pytest.mark.parametrize("action", [READ, DELETE, WRITE])
@pytest.mark.parametrize(("bucket", "prefix"), PLACES)
@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_has_exactly_the_permissions_that_it_needs(
    cloud: Cloud, account: str, bucket: str, prefix: str, action: str
) -> None:
    assert cloud.may(account, action, bucket, prefix) is (action in ALLOWED[account].get((bucket, prefix), set()))


@pytest.mark.parametrize(("bucket", "prefix"), PLACES)
@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_lists_only_buckets_that_it_works_with(cloud: Cloud, account: str, bucket: str, prefix: str) -> None:
    works_with = any(place[0] == bucket for place in ALLOWED[account])
    assert cloud.may_list(account, bucket, prefix) is works_with


@pytest.mark.parametrize("account", ALLOWED)
def test_an_account_cannot_extend_its_permissions(cloud: Cloud, account: str) -> None:
    iam = cloud.client(cloud.sessions[account], "iam")
    with pytest.raises(ClientError, match="AccessDenied"):
        iam.list_roles()


def test_every_account_of_the_stack_is_tested(prod: Recording) -> None:
    associations = prod.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    assert {one.inputs["serviceAccount"] for one in associations} == ALLOWED.keys()


def test_a_task_moves_an_unreadable_image_to_quarantine(cloud: Cloud) -> None:
    s3 = cloud.client(cloud.sessions["dag-image-classifier"], "s3")
    bucket = cloud.buckets["data"]
    s3.put_object(Bucket=bucket, Key="images/broken.png", Body=b"x")
    s3.copy_object(
        Bucket=bucket,
        Key="quarantine/images/broken.png",
        CopySource={"Bucket": bucket, "Key": "images/broken.png"},
        MetadataDirective="REPLACE",
        Metadata={"reason": "no image"},
    )
    s3.delete_object(Bucket=bucket, Key="images/broken.png")
    assert s3.head_object(Bucket=bucket, Key="quarantine/images/broken.png")["Metadata"] == {"reason": "no image"}
