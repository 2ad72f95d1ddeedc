import json
from datetime import UTC, datetime

from ops.aws.account import Account
from ops.pulumi.locks import Lock, locks_of


def test_the_locks_of_a_stack_are_read_from_the_bucket_of_its_state(account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="state")
    content = {"pid": 7, "username": "ada", "hostname": "laptop", "timestamp": "2026-01-31T12:00:00.123456789Z"}
    for stack in ("dev", "dev-x"):
        s3.put_object(
            Bucket="state", Key=f".pulumi/locks/organization/airflow/{stack}/1.json", Body=json.dumps(content)
        )
    s3.put_object(Bucket="state", Key=".pulumi/stacks/airflow/dev.json", Body="{}")
    [lock] = locks_of("dev", "s3://state?region=us-east-1")
    assert lock == Lock("ada", "laptop", 7, datetime(2026, 1, 31, 12, 0, 0, 123456, UTC))
    assert str(lock) == "ada@laptop (process 7) since 2026-01-31 12:00:00 UTC"
    assert locks_of("staging", "s3://state?region=us-east-1") == []
