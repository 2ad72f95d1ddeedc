"""The DAG that CONTRIBUTING shows, under the IAM policies that follow from its declaration."""

from pathlib import Path

from tests import contributing

from .iam_cloud import WRITE, cloud_of


def test_the_example_for_authors_may_use_what_it_declares_and_nothing_else(tmp_path: Path) -> None:
    contributing.copy(tmp_path)
    contributing.follow(tmp_path)
    with cloud_of(contributing.recorded(tmp_path, "prod"), ["dag-churn"]) as cloud:
        bucket = cloud.buckets["data"]
        s3 = cloud.client(cloud.sessions["dag-churn"], "s3")
        for key in ("churn/tables/a.csv", "scores/churn.txt"):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        assert not cloud.may("dag-churn", WRITE, "data", "images/")
        assert not cloud.may("dag-churn", WRITE, "artifacts", "image_classifier/")
        assert cloud.may("dag-churn", WRITE, "artifacts", "mlflow/")
