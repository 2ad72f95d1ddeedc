import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ml_common import object_store
from ml_common.errors import PermanentError, ServiceUnavailableError
from ml_common.object_store import Bucket


def test_an_object_can_be_listed_read_and_checked_for(data: Bucket) -> None:
    data.put("a/ü b.txt", b"hello")
    assert [(found.key, found.size) for found in data.list("a/")] == [("a/ü b.txt", 5)]
    assert data.get("a/ü b.txt") == b"hello"
    assert data.exists("a/ü b.txt")
    assert not data.exists("a/")


def test_more_objects_than_one_page_are_listed(data: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: data.put(f"many/{number}", b""), range(1001)))
    assert len(list(data.list("many/"))) == 1001


def test_moving_keeps_the_bytes_and_writes_metadata_of_any_script(data: Bucket) -> None:
    data.put("from/bild ä.png", b"x")
    data.move("from/bild ä.png", "to/bild ä.png", {"reason": "größer als 20 MB"})
    assert not data.exists("from/bild ä.png")
    assert data.get("to/bild ä.png") == b"x"
    assert data.metadata("to/bild ä.png") == {"reason": "größer als 20 MB"}


def test_an_object_with_another_storage_class_keeps_its_bytes_and_metadata(data: Bucket) -> None:
    data.put("a", b"bytes", "text/csv")
    data.move("a", "b", {"reason": "日本"})
    assert data.set_storage_class("b", "GLACIER_IR")
    assert [(entry.key, entry.storage_class) for entry in data.list("")] == [("b", "GLACIER_IR")]
    assert (data.get("b"), data.metadata("b")) == (b"bytes", {"reason": "日本"})


def test_an_object_store_without_a_storage_class_leaves_the_object_as_it_is(data: Bucket) -> None:
    data.put("a", b"bytes")
    assert not data.set_storage_class("a", "FROZEN")
    assert [(entry.key, entry.storage_class) for entry in data.list("")] == [("a", "STANDARD")]


def test_an_output_is_complete_only_with_its_manifest(artifacts: Bucket) -> None:
    artifacts.put("out/part", b"x")
    assert artifacts.published("out/") is None
    artifacts.publish("out/", {"part": b"x"}, {"count": 1})
    assert artifacts.published("out/") == {"count": 1}


def test_an_output_whose_upload_is_interrupted_is_not_complete(
    artifacts: Bucket, s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, written = Bucket.put, []

    def put_then_lose_the_server(self: Bucket, key: str, data: bytes) -> None:
        put(self, key, data)
        written.append(key)
        s3.stop()

    monkeypatch.setattr(Bucket, "put", put_then_lose_the_server)
    with pytest.raises(ServiceUnavailableError, match="does not answer; check that it is running"):
        artifacts.publish("out/", {"one": b"1", "two": b"2"}, {})
    assert written == ["out/one"]
    s3.start()
    assert artifacts.published("out/") is None
    assert artifacts.get("out/one") == b"1"


@pytest.mark.parametrize("megabytes", [1, 40], ids=["in one part", "in several parts"])
def test_a_downloaded_file_equals_the_uploaded_one(megabytes: int, data: Bucket, tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(os.urandom(1024**2) * megabytes)
    data.upload(sent, "a/ü b")
    data.download("a/ü b", received)
    assert received.read_bytes() == sent.read_bytes()
    assert data.size("a/ü b") == megabytes * 1024**2


def test_a_file_whose_upload_is_interrupted_does_not_exist(
    data: Bucket, s3: ThreadedMotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(40 * 1024**2))
    monkeypatch.setattr(data._client, "complete_multipart_upload", lambda **_: s3.stop() or data._client.list_buckets())
    with pytest.raises(ServiceUnavailableError, match=r"Could not write .* does not answer"):
        data.upload(path, "half")
    s3.start()
    assert list(data.list("")) == []


def test_a_file_that_is_missing_or_has_no_bucket_is_named(data: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(PermanentError, match=rf"Could not read s3://{data.name}/gone: .* 404"):
        data.download("gone", path)
    assert not path.exists()
    with pytest.raises(PermanentError, match=rf"Could not read s3://{data.name}/gone: .* 404"):
        data.size("gone")
    path.write_bytes(b"x")
    with pytest.raises(PermanentError, match="Could not write s3://nowhere/key: the object store answered 404"):
        Bucket("nowhere").upload(path, "key")


def test_files_cannot_be_transferred_while_the_object_store_is_down(
    data: Bucket, s3: ThreadedMotoServer, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    s3.stop()
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        data.upload(path, "key")
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        data.download("key", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    s3.start()


@pytest.fixture
def part(data: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The part of `data` that belongs to one of several environments."""
    monkeypatch.setenv("BUCKET_PREFIX", "previews/x/")
    return object_store.data_bucket()


def test_an_environment_with_a_prefix_reads_and_writes_only_under_it(data: Bucket, part: Bucket) -> None:
    data.put("images/a", b"another's")
    part.put("images/a", b"own")
    part.put_json("report", {})
    part.move("images/a", "quarantine/a", {"reason": "x"})
    assert [found.key for found in data.list("")] == [
        "images/a",
        "previews/x/quarantine/a",
        "previews/x/report",
    ]
    assert data.get("images/a") == b"another's"


def test_an_environment_with_a_prefix_knows_its_keys_without_it(part: Bucket) -> None:
    part.publish("out/", {"images/a": b"1"}, {"count": 1})
    assert [found.key for found in part.list("out/images/")] == ["out/images/a"]
    assert part.get("out/images/a") == b"1"
    assert part.published("out/") == {"count": 1}
    assert part.exists("out/manifest.json")
    assert not part.exists("previews/x/out/manifest.json")
    assert part.uri("out/") == f"s3://{part.name}/previews/x/out/"


def test_both_buckets_have_the_prefix(data: Bucket, artifacts: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (object_store.data_bucket(), object_store.artifacts_bucket()) == (data, artifacts)
    monkeypatch.setenv("BUCKET_PREFIX", "previews/x/")
    assert object_store.data_bucket() == Bucket(data.name, "previews/x/")
    assert object_store.artifacts_bucket() == Bucket(artifacts.name, "previews/x/")


def test_a_missing_bucket_is_not_retried(s3: ThreadedMotoServer) -> None:
    with pytest.raises(PermanentError, match=r"Could not write s3://nowhere/key: the object store answered 404"):
        Bucket("nowhere").put("key", b"")


def test_a_missing_object_is_named(data: Bucket) -> None:
    with pytest.raises(PermanentError, match=rf"Could not read s3://{data.name}/gone: .* 404"):
        data.get("gone")


def test_missing_credentials_are_explained(data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(PermanentError, match="no credentials for the object store"):
        data.get("key")


@pytest.mark.parametrize("variable", ["DATA_BUCKET", "ARTIFACTS_BUCKET"])
def test_an_unset_bucket_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    bucket = object_store.data_bucket if variable == "DATA_BUCKET" else object_store.artifacts_bucket
    with pytest.raises(PermanentError, match=f"{variable} is not set"):
        bucket()


def test_threads_that_use_a_bucket_first_share_one_client(data: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    data.put("key", b"x")
    create, created = boto3.client, []

    def slowly(*arguments: object, **options: object) -> object:
        time.sleep(0.2)
        created.append(create(*arguments, **options))
        return created[-1]

    monkeypatch.setattr(boto3, "client", slowly)
    bucket = Bucket(data.name)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bucket.get, ["key"] * 4)) == [b"x"] * 4
    assert len(created) == 1
