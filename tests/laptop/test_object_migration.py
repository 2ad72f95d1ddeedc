"""Tests of the migration of a home that ministack 1.5.33 wrote: see `ministack-1.5.33.tar.xz`.

It has overwritten, deleted and restored objects in versioned buckets, and keys that a file system does not support.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import OperationError
from ops.laptop import object_migration
from ops.laptop.home import Home
from tests.laptop import s3_server
from tests.laptop.s3_server import S3Server

OLD = Path(__file__).with_name("ministack-1.5.33.tar.xz")
DATA, ARTIFACTS, LOGS = "airflow-data", "airflow-artifacts", "airflow-logs"
WEIGHTS = b"\x1c" * 9 * 2**20  # uploaded in parts
LONG = f"long/{'x' * 220}.png"
LOG = "dag_id=x/run_id=manual__2026-01-01T00:00:00+00:00/task_id=t/attempt=1.log"
EXPECTED = {
    (DATA, "images/digits/0/0000.png"): b"\x89PNG two",
    (DATA, "a b/ü.png"): b"umlaut",
    (DATA, "日本/猫 (1) & 犬+100%.png"): b"neko",
    (DATA, "back/again.png"): b"second",
    (DATA, "empty"): b"",
    (DATA, LONG): b"long name",
    (DATA, "file"): b"a file",
    (DATA, "file/below"): b"below a file",
    (DATA, "double/slash"): b"double",  # the key double//slash is the same
    (DATA, "ends.tmp"): b"tmp",
    (DATA, "ends.meta.json"): b"{}",
    (ARTIFACTS, "mlflow/1/run/artifacts/model/MLmodel"): b"flavors: {}",
    (ARTIFACTS, "mlflow/1/run/artifacts/model/weights.bin"): WEIGHTS,
    (LOGS, LOG): "done ✓\n".encode(),
}
# Migrates the objects of a home and is killed with SIGKILL halfway.
KILLED = """
import os, signal, sys
from pathlib import Path
from ops.laptop import object_migration, object_store
from ops.laptop.home import Home
home, port = Home(Path(sys.argv[1])), int(sys.argv[2])
upload, uploads = object_migration._upload, []
def upload_some(s3, each):
    if len(uploads) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    uploads.append(each)
    upload(s3, each)
object_migration.UPLOADS = 1
object_migration._upload = upload_some
object_migration.move(home, object_store.client(home, port), print)
"""


@pytest.fixture
def server(home: Home) -> Iterator[S3Server]:
    with tarfile.open(OLD) as archive:
        archive.extractall(home.root, filter="data")
    yield s3_server.start(home)
    s3_server.stop(home)


def move(server: S3Server) -> list[str]:
    lines: list[str] = []
    object_migration.move(server.home, server.client, lines.append)
    return lines


def stored(s3: Any) -> dict[tuple[str, str], bytes]:
    return {
        (bucket["Name"], entry["Key"]): s3.get_object(Bucket=bucket["Name"], Key=entry["Key"])["Body"].read()
        for bucket in s3.list_buckets()["Buckets"]
        for entry in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ())
    }


def old_files(home: Home) -> set[Path]:
    return {path for path in (home.objects / "000000000000").rglob("*") if path.is_file()}


def test_objects_are_migrated_with_their_headers_and_deleted_ones_stay_deleted(server: S3Server) -> None:
    assert object_migration.pending(server.home)
    lines = move(server)
    s3 = server.client
    assert stored(s3) == EXPECTED
    assert s3.head_object(Bucket=DATA, Key="a b/ü.png")["Metadata"] == {"reason": "not%20an%20image"}
    assert s3.head_object(Bucket=DATA, Key="images/digits/0/0000.png")["ContentType"] == "image/png"
    model = s3.head_object(Bucket=ARTIFACTS, Key="mlflow/1/run/artifacts/model/MLmodel")
    assert (model["CacheControl"], model["ContentDisposition"]) == ("no-cache", "attachment")
    assert lines[0] == "migrating 14 objects from the old S3 server to the new one; this happens only once"


def test_the_old_files_are_deleted_and_a_second_migration_does_nothing(server: S3Server) -> None:
    move(server)
    assert not object_migration.pending(server.home)
    assert not {path.name for path in server.home.objects.iterdir()} & {
        "000000000000",
        "moved-000000000000",
        ".versions",
    }
    server.client.put_object(Bucket=DATA, Key="empty", Body=b"not any more")
    assert move(server) == []
    assert server.client.get_object(Bucket=DATA, Key="empty")["Body"].read() == b"not any more"


def test_a_killed_migration_loses_nothing_and_resumes(server: S3Server) -> None:
    before = old_files(server.home)
    command = [sys.executable, "-c", KILLED, str(server.home.root), str(server.ports["s3"])]
    assert subprocess.run(command, check=False, timeout=300).returncode == -9
    assert old_files(server.home) == before
    assert len(stored(server.client)) == 4
    move(server)
    assert stored(server.client) == EXPECTED
    for bucket in (DATA, ARTIFACTS, LOGS):
        versions = server.client.list_object_versions(Bucket=bucket)["Versions"]
        assert all(version["IsLatest"] for version in versions)  # none was uploaded twice


def test_the_remains_of_a_killed_deletion_are_not_migrated_again(server: S3Server) -> None:
    move(server)
    server.client.delete_object(Bucket=DATA, Key="file")
    leftover = server.home.objects / "moved-000000000000" / DATA
    leftover.mkdir(parents=True)
    (leftover / "file").write_bytes(b"a file")
    assert move(server) == []
    assert (DATA, "file") not in stored(server.client)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("key", "reason"),
    [("../a", "Invalid Request"), ("double/slash", "as the same key"), ("double\\slash", "as the same key")],
)
def test_the_error_names_a_rejected_object_and_nothing_is_deleted(server: S3Server, key: str, reason: str) -> None:
    file = server.home.objects / "000000000000" / DATA / "zzz"
    file.write_bytes(b"refused")
    file.with_name("zzz.meta.json").write_text(json.dumps({"key": key}))
    before = old_files(server.home)
    with pytest.raises(OperationError, match=re.escape(f"s3://{DATA}/{key} (")) as caught:
        move(server)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(f"move its file {file} to another folder, then rerun `make up`")
    assert old_files(server.home) == before
    file.rename(server.home.root / "zzz")
    move(server)
    assert stored(server.client) == EXPECTED


def test_too_little_disk_space_is_reported_before_the_migration(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(server.home.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2**31))
    with pytest.raises(
        OperationError, match=r"^the disk of .* has 2\.0 GiB free, and 2\.0 GiB are required to migrate"
    ):
        move(server)
    assert stored(server.client) == {}


def test_an_object_with_a_damaged_sidecar_is_migrated(server: S3Server) -> None:
    folder = server.home.objects / "000000000000" / DATA
    (folder / "file.meta.json").write_text("")
    (folder / ".ministack-keys" / "double%2F%2Fslash.meta.json").unlink()
    move(server)
    assert stored(server.client) == EXPECTED
