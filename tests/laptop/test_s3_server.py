import sys
from collections.abc import Iterator

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from infra.laptop import object_store, processes
from infra.laptop.home import Home

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are found by their POSIX session")


@pytest.fixture
def port(home: Home) -> Iterator[int]:
    port = processes.free_port(14566, taken=set())
    start(home, port)
    yield port
    processes.stop(home, "s3")


def start(home: Home, port: int) -> None:
    server = object_store.service(home, port)
    processes.start(home, server)
    processes.wait_until_healthy(home, server, 30)
    object_store.create_buckets(home, port)


def test_objects_and_bucket_settings_survive_kill_9(home: Home, port: int) -> None:
    s3 = object_store.client(home, port)
    s3.put_object(Bucket="airflow-data", Key="a b/ü.png", Body=b"kept")
    leader = processes.records(home)["s3"].leader()
    assert leader is not None
    leader.kill()
    leader.wait()
    start(home, port)
    assert s3.get_object(Bucket="airflow-data", Key="a b/ü.png")["Body"].read() == b"kept"
    for bucket in object_store.BUCKETS.values():
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_requests_with_another_key_are_refused(port: int) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="AKIAAAAAAAAAAAAAAAAA",
        aws_secret_access_key="guess",
        region_name="us-east-1",
    )
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        stranger.list_objects_v2(Bucket="airflow-data")


def test_nobody_can_delete_everything_by_the_administration_interface(home: Home, port: int) -> None:
    object_store.client(home, port).put_object(Bucket="airflow-data", Key="kept", Body=b"")
    assert httpx.post(f"http://127.0.0.1:{port}/_ministack/reset", trust_env=False).status_code == 403
    assert object_store.client(home, port).list_objects_v2(Bucket="airflow-data")["KeyCount"] == 1


def test_it_listens_on_the_loopback_address_only(home: Home, port: int) -> None:
    members = processes.records(home)["s3"].members()
    listening = {c.laddr.ip for m in members for c in m.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
