"""Tests of the laptop's S3 server: what it stores, and that it requires the access key."""

import io
import json
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.client import BadStatusLine, HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import boto3
import grpc  # type: ignore[import-untyped]
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ops.laptop import certificate, object_store, ports, processes
from ops.laptop.home import Home
from tests.laptop import s3_server
from tests.laptop.s3_server import S3Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are found by their POSIX session")

DATA = object_store.BUCKETS["data"]
KEYS = [
    "a b/ü.png",
    "日本/猫 (1).png",
    "a+b&c=d?e#f%20g.txt",
    "emoji/😀",
    ".hidden",
    "double//slash",
    "x" * 250,
    "a",
    "a/b",
]
PARTS_PORTS = 7
ORIGIN = {"Origin": "http://attacker.example", "Access-Control-Request-Method": "PUT"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    # Longer than the path of a Unix socket may be.
    home = Home(tmp_path_factory.mktemp("home") / ("long" * 30))
    home.create()
    yield s3_server.start(home)
    s3_server.stop(home)


@pytest.fixture
def kept(server: S3Server) -> Iterator[str]:
    """The key of an object that must survive every attack."""
    server.client.put_object(Bucket=DATA, Key="kept", Body=b"kept")
    yield "kept"
    assert server.client.get_object(Bucket=DATA, Key="kept")["Body"].read() == b"kept"
    assert "planted" not in {o["Key"] for o in server.client.list_objects_v2(Bucket=DATA)["Contents"]}


def client(server: S3Server, key: str, secret: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server.ports['s3']}",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )


def inner_ports(server: S3Server) -> list[int]:
    """Return all ports except the one that verifies signatures."""
    return sorted({port for _, port in server.listening()} - {server.ports["s3"]})


def request(port: int, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=b"planted", headers=headers or {})
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    except (OSError, HTTPException, BadStatusLine):
        return 0, {}
    finally:
        connection.close()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_and_its_metadata_are_stored_unchanged(server: S3Server, key: str) -> None:
    s3 = server.client
    body = key.encode()
    s3.put_object(Bucket=DATA, Key=key, Body=body, ContentType="image/png", Metadata={"reason": "not%20an%20image"})
    found = s3.get_object(Bucket=DATA, Key=key)
    assert (found["Body"].read(), found["ContentType"]) == (body, "image/png")
    assert found["Metadata"] == {"reason": "not%20an%20image"}
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=DATA, Prefix=key)
    assert key in [entry["Key"] for page in pages for entry in page["Contents"]]


def test_an_image_is_copied_with_new_metadata_and_the_first_one_is_deleted(server: S3Server) -> None:
    s3 = server.client
    s3.put_object(Bucket=DATA, Key="images/ü.png", Body=b"image")
    source = {"Bucket": DATA, "Key": "images/ü.png"}
    target = {"Bucket": DATA, "Key": "quarantine/images/ü.png"}
    s3.copy_object(**target, CopySource=source, MetadataDirective="REPLACE", Metadata={"reason": "small"})
    s3.delete_object(**source)
    assert s3.head_object(**target)["Metadata"] == {"reason": "small"}
    with pytest.raises(ClientError, match="404"):
        s3.head_object(**source)


def test_a_large_file_is_stored_in_parts(server: S3Server) -> None:
    body = bytes(range(256)) * 2**16
    server.client.upload_fileobj(io.BytesIO(body), DATA, "large")
    found = io.BytesIO()
    server.client.download_fileobj(DATA, "large", found)
    assert found.getvalue() == body
    part = server.client.get_object(Bucket=DATA, Key="large", Range="bytes=1000-1009")
    assert part["Body"].read() == body[1000:1010]


def test_overwritten_and_deleted_objects_are_kept_as_old_versions(server: S3Server) -> None:
    s3 = server.client
    for body in (b"first", b"second"):
        s3.put_object(Bucket=DATA, Key="versioned", Body=body)
    s3.delete_objects(Bucket=DATA, Delete={"Objects": [{"Key": "versioned"}]})
    versions = s3.list_object_versions(Bucket=DATA, Prefix="versioned")["Versions"]
    bodies = [s3.get_object(Bucket=DATA, Key="versioned", VersionId=v["VersionId"])["Body"].read() for v in versions]
    assert sorted(bodies) == [b"first", b"second"]


def test_a_bucket_that_does_not_exist_is_not_created_by_writing_to_it(server: S3Server) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        server.client.put_object(Bucket="airflow-dota", Key="x", Body=b"")


def master(server: S3Server) -> str:
    return f"127.0.0.1:{server.ports['s3-master']}.{server.ports['s3-master.grpc']}"


def maintenance(server: S3Server, temporary: Path) -> str:
    """Run the master's maintenance script, which runs every 17 minutes; return its output."""
    script = (server.home.objects / "master.toml").read_text().split('"""')[1]
    done = subprocess.run(
        [str(object_store.PROGRAM), "-config_dir=.", "shell", f"-master={master(server)}"],
        check=False,
        input=script,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=server.home.objects,
        env={"HOME": str(temporary), "TMPDIR": str(temporary)},
    )
    return done.stdout + done.stderr


def test_logs_expire_by_the_masters_maintenance_and_other_objects_do_not(server: S3Server, tmp_path: Path) -> None:
    s3, logs = server.client, object_store.BUCKETS["logs"]
    s3.put_object(Bucket=logs, Key="dag_id=x/attempt=1.log", Body=b"done")
    s3.put_object(Bucket=DATA, Key="stays", Body=b"image")
    rules = s3.get_bucket_lifecycle_configuration(Bucket=logs)["Rules"]
    assert [rule["Expiration"] for rule in rules if "Expiration" in rule] == [{"Days": 30}]
    assert "error" not in maintenance(server, tmp_path).lower()
    assert s3.list_objects_v2(Bucket=logs)["KeyCount"] == 1

    past = {
        "ID": "expire",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Date": "2020-01-01T00:00:00Z"},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=logs, LifecycleConfiguration={"Rules": [past]})
    try:
        output = maintenance(server, tmp_path)
    finally:
        object_store.create_buckets(server.home, server.ports["s3"])
    assert s3.list_objects_v2(Bucket=logs)["KeyCount"] == 0, output
    assert s3.get_object(Bucket=DATA, Key="stays")["Body"].read() == b"image"


def test_objects_and_bucket_settings_survive_kill_9(server: S3Server) -> None:
    body = bytes(range(256)) * 2**16
    server.client.put_object(Bucket=DATA, Key="a b/ü.png", Body=b"kept")
    server.client.upload_fileobj(io.BytesIO(body), DATA, "large")
    server.kill()
    again = s3_server.start(server.home)
    assert again.ports == server.ports
    assert again.client.get_object(Bucket=DATA, Key="a b/ü.png")["Body"].read() == b"kept"
    assert again.client.get_object(Bucket=DATA, Key="large")["Body"].read() == body
    for bucket in object_store.BUCKETS.values():
        assert again.client.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_data_stays_when_other_programs_have_taken_the_ports(home: Home) -> None:
    first = s3_server.start(home)
    try:
        first.client.put_object(Bucket=DATA, Key="kept", Body=b"kept")
        first.kill()
        taken = [socket.create_server(("127.0.0.1", port)) for port in first.ports.values()]
        second = s3_server.start(home)
        assert not set(first.ports.values()) & {port for _, port in second.listening()}
        assert second.client.get_object(Bucket=DATA, Key="kept")["Body"].read() == b"kept"
        second.client.put_object(Bucket=DATA, Key="new", Body=b"new")
    finally:
        s3_server.stop(home)
    for each in taken:
        each.close()


def test_settings_for_another_server_of_the_user_are_ignored(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".seaweedfs").mkdir()
    for name in ("security", "master", "filer", "notification", "credential", "volume"):
        (tmp_path / ".seaweedfs" / f"{name}.toml").write_text(
            "[leveldb2]\nenabled = false\n[redis2]\nenabled = true\n[https.client]\nenabled = false\n"
        )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WEED_REDIS2_ENABLED", "true")
    monkeypatch.setenv("WEED_HTTPS_CLIENT_ENABLED", "false")
    # The server reads options from variables: this one opens a port for memory profiles.
    for name, value in {"DEBUG": "true", "DEBUG_PORT": "6061", "WEBDAV": "true", "MAX": "1", "DIR": "/"}.items():
        monkeypatch.setenv(name, value)
    try:
        server = s3_server.start(home)
        server.client.put_object(Bucket=DATA, Key="kept", Body=b"kept")
        assert len(inner_ports(server)) == PARTS_PORTS
    finally:
        s3_server.stop(home)


@pytest.mark.parametrize(
    "key", ["", "test", "admin", "123456789012", "000000000000", "AKIAAAAAAAAAAAAAAAAA", "the server's own"]
)
@pytest.mark.parametrize("secret", ["", "test", "guess", "the key"])
def test_requests_signed_with_another_key_are_refused(server: S3Server, kept: str, key: str, secret: str) -> None:
    if key == "the server's own":
        key = server.home.secrets.s3_access_key
    stranger = client(server, key, key if secret == "the key" else secret)
    for attempt in (
        stranger.list_buckets,
        lambda: stranger.list_objects_v2(Bucket=DATA),
        lambda: stranger.get_object(Bucket=DATA, Key=kept),
        lambda: stranger.put_object(Bucket=DATA, Key="planted", Body=b""),
        lambda: stranger.delete_object(Bucket=DATA, Key=kept),
        lambda: stranger.delete_bucket(Bucket=DATA),
    ):
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", f"/{DATA}?list-type=2"),
        ("GET", f"/{DATA}/kept"),
        ("HEAD", f"/{DATA}/kept"),
        ("PUT", f"/{DATA}/planted"),
        ("PUT", "/planted"),
        ("POST", f"/{DATA}"),
        ("POST", f"/{DATA}?delete"),
        ("POST", f"/{DATA}/planted?uploads"),
        ("POST", "/?Action=CreateAccessKey&Version=2010-05-08"),
        ("POST", "/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=x&RoleArn=y"),
        ("DELETE", f"/{DATA}/kept"),
        ("DELETE", f"/{DATA}"),
        ("GET", "/metrics"),
        ("GET", "/debug/pprof/heap"),
    ],
)
def test_unsigned_requests_are_refused(server: S3Server, kept: str, method: str, path: str) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x", "Host": "attacker.example"}
    for headers in ({}, form):
        assert request(server.ports["s3"], method, path, headers)[0] in (400, 403, 404, 405)


def test_web_pages_cannot_read_objects_or_send_signed_requests(server: S3Server, kept: str) -> None:
    signed = server.client.generate_presigned_url("get_object", Params={"Bucket": DATA, "Key": kept})
    allowed = signed.partition(f":{server.ports['s3']}")[2]
    preflights = [("OPTIONS", path) for path in ("/", f"/{DATA}", f"/{DATA}/{kept}")]
    for method, path in (*preflights, ("GET", f"/{DATA}/{kept}"), ("GET", allowed)):
        status, headers = request(server.ports["s3"], method, path, ORIGIN)
        assert status == 200 if path == allowed else status in (0, 403), path  # it closes the connection or refuses
        assert not [name for name in headers if name.startswith("access-control-")], path


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_no_other_port_serves_a_request_without_the_certificate(server: S3Server, kept: str, method: str) -> None:
    assert len(inner_ports(server)) == PARTS_PORTS
    for port in inner_ports(server):
        for path in ("/", f"/buckets/{DATA}/kept", "/dir/assign", f"/col/delete?collection={DATA}", "/ui/index.html"):
            status, headers = request(port, method, path, ORIGIN)
            assert status in (0, 400), (port, path)  # no answer, or an error that TLS is required
            assert not [name for name in headers if name.startswith("access-control-")]


def shaken_hands(port: int, own: Path | None) -> bool:
    """Return whether a TLS handshake succeeds, with the certificate in a file or without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if own:
        context.load_cert_chain(own)
    try:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return bool(connection.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


def test_every_other_port_requires_the_certificate_of_this_home(server: S3Server, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pem"
    foreign.write_text(certificate.create())
    for port in inner_ports(server):
        assert not shaken_hands(port, None), port
        assert not shaken_hands(port, foreign), port
        assert shaken_hands(port, server.home.objects / object_store.CERTIFICATE), port


@pytest.mark.parametrize("method", ["filer_pb.SeaweedFiler/ListEntries", "grpc.reflection.v1.ServerReflection/Info"])
def test_no_port_speaks_grpc_without_the_certificate(server: S3Server, tmp_path: Path, method: str) -> None:
    pem = certificate.create().encode()
    foreign = grpc.ssl_channel_credentials(pem, pem, pem)
    for port in inner_ports(server):
        for channel in (
            grpc.insecure_channel(f"127.0.0.1:{port}"),
            grpc.secure_channel(f"127.0.0.1:{port}", foreign),
        ):
            with channel, pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/{method}")(b"", timeout=30)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE, port


def test_its_own_administration_program_gets_nowhere_without_the_certificate(server: S3Server, tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [str(object_store.PROGRAM), "shell", f"-master={master(server)}"],
            check=False,
            input="s3.bucket.delete -name airflow-data\n",
            text=True,
            timeout=8,
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        )
    assert DATA in {bucket["Name"] for bucket in server.client.list_buckets()["Buckets"]}


def test_it_listens_on_the_loopback_address_only(server: S3Server) -> None:
    assert {address for address, _ in server.listening()} == {"127.0.0.1"}


def test_its_sockets_are_in_its_folder_which_no_other_user_may_enter(server: S3Server) -> None:
    folder = server.home.objects
    bound = {str(c.laddr) for process in server.processes() for c in process.net_connections("unix") if c.laddr}
    assert bound == {"filer.sock", "s3.sock"}
    assert all((folder / name).is_socket() for name in bound)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_its_keys_are_in_no_argument_and_no_file_that_others_may_read(server: S3Server) -> None:
    arguments = json.dumps([process.cmdline() for process in server.processes()])
    assert "-s3.port=" in arguments
    assert server.home.secrets.s3_secret_key not in arguments
    for file in server.home.objects.iterdir():
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_port_is_chosen_so_that_its_twin_is_free_too(home: Home) -> None:
    first = ports.PREFERRED["s3.filer"]
    chosen = processes.free_port(first, set(), 10000)
    with socket.create_server(("127.0.0.1", chosen + 10000)):
        assert processes.free_port(first, set(), 10000) > chosen


def test_a_later_command_keeps_the_ports_of_all_parts(server: S3Server) -> None:
    assert s3_server.chosen_ports(server.home) == server.ports


def test_its_certificate_satisfies_pythons_strict_rules(server: S3Server) -> None:
    file = server.home.objects / object_store.CERTIFICATE
    context = ssl.create_default_context(cafile=file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(file)
    with context.wrap_socket(
        socket.create_connection(("127.0.0.1", server.ports["s3-master"])), server_hostname="127.0.0.1"
    ) as connection:
        assert connection.version() == "TLSv1.3"


def test_nothing_of_it_is_left_when_it_is_stopped(home: Home) -> None:
    server = s3_server.start(home)
    members = server.processes()
    s3_server.stop(home)
    assert members
    assert not [member for member in members if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
