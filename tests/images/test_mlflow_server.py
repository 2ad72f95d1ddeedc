"""The MLflow server in its own process: access, and where artifacts may be stored."""

import gzip
import json
import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import httpx
import psutil
import pytest
from moto.server import ThreadedMotoServer

from access import BODY_SECONDS, MAX_BODY_BYTES, SPANS, Right, required_right
from infra.mlflow_server import PREPARE_DATABASE
from infra.mlflow_users import ADMIN, SERVING, TASKS, USERS
from ops.laptop.mlflow import PROGRAM
from tests import mlflow_server
from tests.mlflow_server import PASSWORDS, PYTHON, MlflowServer
from tests.servers import free_port

BUCKET = "artifacts"
ROOT = f"s3://{BUCKET}/previews/one/mlflow"
API = "/api/2.0/mlflow"
RIGHTS = {SERVING: Right.TRACE, TASKS: Right.WRITE, ADMIN: Right.DELETE}

# Prints the methods and paths of all routes of MLflow's application.
LIST_ROUTES = """
import json, uvicorn
from mlflow.server import app as flask
from mlflow.server.fastapi_app import app

def native(routes, prefix=""):
    for route in routes:
        if hasattr(route, "original_router"):
            yield from native(route.original_router.routes, prefix + (route.include_context.prefix or ""))
        elif getattr(route, "methods", None):
            yield from ((method, prefix + route.path) for method in route.methods)

print(json.dumps(sorted({
    *native(app.routes),
    *((method, rule.rule) for rule in flask.url_map.iter_rules() for method in rule.methods),
})))
"""
# Words in paths that make the server connect elsewhere, start programs, or give away keys to the object store.
NOT_OFFERED = (
    *("/gateway/", "webhooks", "jobs", "assistant", "mcp-servers", "mlflow-artifacts", "invoke", "demo", "presigned"),
    *("promptlab", "/v1/", "scorers", "prompt-optimization"),
)


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """An S3 server, and the variables by which clients find it."""
    port = free_port()
    s3 = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    s3.start()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield variables
    s3.stop()


@pytest.fixture(scope="module")
def server(aws: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    variables = aws | {"MLFLOW_DEPLOYMENTS_TARGET": "http://127.0.0.1:9"}
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow"), ROOT, variables) as found:
        yield found


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Methods and paths of all MLflow routes, with values in place of their variables."""
    found = json.loads(subprocess.run([PYTHON, "-c", LIST_ROUTES], check=True, capture_output=True).stdout)
    return [(method, re.sub(r"<[^>]+>|\{[^}]+\}", "x", path)) for method, path in found]


def client(server: MlflowServer, user: str | None = None, **headers: str) -> httpx.Client:
    auth = (user, PASSWORDS[user]) if user else None
    return httpx.Client(base_url=server.url, auth=auth, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def admin(server: MlflowServer) -> Iterator[httpx.Client]:
    with client(server, ADMIN) as found:
        yield found


@pytest.fixture(scope="module")
def tasks(server: MlflowServer) -> Iterator[httpx.Client]:
    with client(server, TASKS) as found:
        yield found


def test_the_routes_are_all_that_mlflow_has(routes: list[tuple[str, str]]) -> None:
    assert len(routes) > 400
    for word in NOT_OFFERED:
        assert any(word in path for _, path in routes), word


def test_without_a_login_every_route_except_the_health_check_is_refused(
    server: MlflowServer, routes: list[tuple[str, str]]
) -> None:
    with client(server) as stranger:
        answered = {(method, path) for method, path in routes if stranger.request(method, path).status_code != 401}
    assert answered == {("GET", "/health")}


def test_a_connection_stays_open_longer_than_clients_keep_it(server: MlflowServer) -> None:
    longest = 6  # httpx keeps one for 5 s.
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=longest) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode())
        while not connection.recv(1024).endswith(b"OK"):
            pass
        with pytest.raises(TimeoutError):
            connection.recv(1)


@pytest.mark.parametrize("path", ["/healthx", "/health/", "/health/../version", "//", "/static-files/../x", "/%2e/"])
def test_no_path_that_looks_like_the_health_check_is_served_without_a_login(server: MlflowServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port)) as connection:
        host = urlsplit(server.url).netloc
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 401 ")


def test_a_web_socket_is_refused(server: MlflowServer) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "==",
               "Sec-WebSocket-Version": "13"}  # fmt: skip
    assert client(server).get("/", headers=upgrade).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Basic", "Basic !", "Basic YWRtaW4=", "Bearer password of admin", "Basic YWRtaW46", "Basic w4PDhA=="),
        httpx.BasicAuth(ADMIN, "wrong")._auth_header,
        httpx.BasicAuth(ADMIN, PASSWORDS[TASKS])._auth_header,
        httpx.BasicAuth("nobody", PASSWORDS[ADMIN])._auth_header,
        httpx.BasicAuth(ADMIN.upper(), PASSWORDS[ADMIN])._auth_header,
        httpx.BasicAuth("admin", "password")._auth_header,
    ],
)
def test_a_wrong_login_is_refused_and_a_browser_asks_for_another(server: MlflowServer, authorization: str) -> None:
    answer = client(server, Authorization=authorization).get("/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert answer.json()["error_code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("user", USERS)
def test_each_user_gets_the_interface_and_reads(server: MlflowServer, user: str) -> None:
    with client(server, user) as http:
        assert "<html" in http.get("/").text
        assert http.get("/version").status_code == 200
        assert http.get(f"{API}/experiments/search", params={"max_results": 1}).status_code == 200
        assert http.post("/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": ["0"]}).status_code == 200


def test_routes_other_than_tracking_and_registry_are_refused_to_every_user(
    admin: httpx.Client, routes: list[tuple[str, str]]
) -> None:
    hidden = [each for each in routes if any(word in each[1] for word in NOT_OFFERED) and each != ("POST", SPANS)]
    answers = {(method, path): admin.request(method, path).status_code for method, path in hidden}
    assert {each: code for each, code in answers.items() if code not in (404, 405)} == {}
    assert len(hidden) > 150


def test_the_proxy_of_the_gateway_has_no_endpoints_and_connects_nowhere(server: MlflowServer) -> None:
    with client(server, TASKS) as http:
        for method in ("GET", "POST"):
            answer = http.request(method, "/ajax-api/2.0/mlflow/gateway-proxy", params={"gateway_path": "api/2.0/x"})
            assert answer.json() == {"endpoints": []}


@pytest.mark.parametrize("user", [SERVING, TASKS])
def test_a_user_is_refused_every_route_beyond_its_right(
    server: MlflowServer, routes: list[tuple[str, str]], user: str
) -> None:
    with client(server, user) as http:
        for method, path in routes:
            right = required_right(method, path)
            if right is not None and right > RIGHTS[user]:
                answer = http.request(method, path)
                assert (answer.status_code, answer.headers["Content-Type"]) in (
                    (403, "application/json"),
                    (405, "text/html; charset=utf-8"),
                ), (method, path)


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/", Right.READ),
        ("GET", "/static-files/static/js/main.js", Right.READ),
        ("GET", f"{API}/model-versions/get-download-uri", Right.READ),
        ("GET", "/get-artifact", Right.READ),
        ("GET", f"{API}/artifacts/list", Right.READ),
        ("POST", "/graphql", Right.READ),
        ("POST", f"{API}/registered-models/get-latest-versions", Right.READ),
        ("POST", SPANS, Right.TRACE),
        ("POST", "/api/3.0/mlflow/traces", Right.TRACE),
        ("GET", SPANS, None),
        ("PATCH", "/api/3.0/mlflow/traces/tr-1/tags", Right.WRITE),
        ("POST", f"{API}/experiments/create", Right.WRITE),
        ("POST", f"{API}/runs/log-batch", Right.WRITE),
        ("POST", f"{API}/runs/update", Right.WRITE),
        ("POST", f"{API}/model-versions/create", Right.WRITE),
        ("POST", f"{API}/registered-models/alias", Right.WRITE),
        ("POST", f"{API}/logged-models", Right.WRITE),
        ("PATCH", f"{API}/logged-models/search", Right.WRITE),
        ("POST", "/ajax-api/2.0/mlflow/upload-artifact", Right.WRITE),
        ("DELETE", f"{API}/registered-models/alias", Right.DELETE),
        ("DELETE", f"{API}/model-versions/delete", Right.DELETE),
        ("POST", f"{API}/runs/delete", Right.DELETE),
        ("POST", f"{API}/experiments/restore", Right.DELETE),
        ("POST", "/api/3.0/mlflow/traces/delete-traces", Right.DELETE),
        ("POST", f"{API}/artifacts/presigned-upload-url", None),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/x", None),
        ("GET", "/signup", None),
        ("GET", "/api/4.0/mlflow/traces/search", None),
        ("GET", f"/x{API}/runs/get", None),
    ],
)
def test_requests_are_classified_as_reading_writing_or_deleting(method: str, path: str, right: Right | None) -> None:
    assert required_right(method, path) is right


@pytest.mark.parametrize(
    "host",
    [
        *(
            "mlflow.attacker.example",
            "mlflow:5000.attacker.example",
            "mlflow",
            "mlflow:5001",
            "mlflow.airflow.svc:5000",
        ),
        *(
            "127.0.0.1:9.attacker.example",
            "10.0.0.1",
            "10.0.0.1.attacker.example",
            "localhost",
            "localhost:x",
            "[::1]:1",
        ),
        *("localhost:", "localhost:1:2", "xlocalhost:1", "127.0.0.1:1", ""),
    ],
)
def test_a_host_that_is_not_listed_is_refused_with_any_login(server: MlflowServer, host: str) -> None:
    for user in (None, ADMIN):
        answer = client(server, user, Host=host).get(f"{API}/experiments/search", params={"max_results": 1})
        assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["mlflow:5000", "localhost:5000", "localhost:65535"])
def test_a_host_that_is_listed_is_served(server: MlflowServer, host: str) -> None:
    answer = client(server, ADMIN, Host=host).get(f"{API}/experiments/search", params={"max_results": 1})
    assert answer.status_code == 200


def test_a_probe_is_answered_by_the_address_of_a_pod(server: MlflowServer) -> None:
    assert client(server, Host="10.1.2.3:5000").get("/health").status_code == 200


@pytest.mark.parametrize("origin", ["http://attacker.example", "null", "http://localhost:9", "http://127.0.0.1", ""])
@pytest.mark.parametrize(("method", "path"), [("GET", "/version"), ("POST", f"{API}/experiments/create")])
def test_requests_of_another_sites_pages_are_refused(server: MlflowServer, origin: str, method: str, path: str) -> None:
    assert client(server, ADMIN, Origin=origin).request(method, path).status_code == 403


def test_requests_of_the_interfaces_own_pages_are_served(server: MlflowServer) -> None:
    answer = client(server, ADMIN, Origin=server.url).post(f"{API}/experiments/create", json={"name": uuid4().hex})
    assert answer.status_code == 200


def test_a_long_body_is_refused_at_once_without_a_login_and_beyond_its_limit_with_one(server: MlflowServer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port), timeout=BODY_SECONDS / 2) as connection:
        host = urlsplit(server.url).netloc
        connection.sendall(
            f"POST {API}/runs/search HTTP/1.1\r\nHost: {host}\r\nContent-Length: {2**40}\r\n\r\n".encode()
        )
        assert connection.recv(1024).startswith(b"HTTP/1.1 401 ")
    answer = client(server, ADMIN).post(f"{API}/runs/search", content=iter([b" " * MAX_BODY_BYTES, b" "]))
    assert answer.status_code == 413


# Where artifacts may be.

OUTSIDE = [
    "file:///etc",
    "file://localhost/etc",
    "/etc",
    "folder",
    "../folder",
    "FILE:///etc",
    f"s3://other/{BUCKET}",
    f"s3://{BUCKET}",
    f"s3://{BUCKET}/",
    f"s3://{BUCKET}/previews/two/mlflow",
    f"{ROOT}-of-another",
    f"{ROOT}/../../two",
    f"{ROOT}/./x",
    f"{ROOT}/..",
    f"{ROOT}//x",
    f"{ROOT}/%2e%2e/x",
    f"{ROOT}/x%2f..%2f..",
    f"{ROOT}/x?y=z",
    f"{ROOT}/x#y",
    f"{ROOT}/x\\..\\y",
    f"{ROOT}/x\n",
    f"S3://{BUCKET}/previews/one/mlflow/x",
    f"s3://user@{BUCKET}/previews/one/mlflow/x",
    "http://127.0.0.1:1/x",
    "https://attacker.example/x",
    "ftp://attacker.example/x",
    "dbfs:/x",
    "mlflow-artifacts:/x",
    "mlflow-artifacts://attacker.example/x",
    "runs:/x/y",
    "gs://x/y",
    "hdfs://x/y",
    "models:/x/1",
    "unknown:x",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_an_experiment_outside_the_folder_is_refused(tasks: httpx.Client, location: str) -> None:
    for field in ("artifact_location", "artifactLocation"):
        answer = tasks.post(f"{API}/experiments/create", json={"name": uuid4().hex, field: location})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), field


@pytest.mark.parametrize("location", [*OUTSIDE, "models:/none/1", "models:/m-none", "dummy-source"])
def test_a_version_from_outside_the_folder_is_refused(tasks: httpx.Client, location: str) -> None:
    name = uuid4().hex
    assert tasks.post(f"{API}/registered-models/create", json={"name": name}).status_code == 200
    answer = tasks.post(f"{API}/model-versions/create", json={"name": name, "source": location})
    assert answer.status_code in (400, 404), answer.text
    found = tasks.get(f"{API}/model-versions/search", params={"filter": f"name = '{name}'"}).json()
    assert "model_versions" not in found


@pytest.mark.parametrize("location", [ROOT, f"{ROOT}/", f"{ROOT}/7", f"{ROOT}/name of ü/...", None])
def test_an_experiment_inside_the_folder_stores_and_returns_artifacts(
    tasks: httpx.Client, location: str | None
) -> None:
    run = new_run(tasks, location)
    assert run["artifact_uri"].startswith(ROOT)
    where = {"run_uuid": run["run_id"], "path": "folder/file.txt"}
    assert tasks.post("/ajax-api/2.0/mlflow/upload-artifact", params=where, content=b"kept").status_code == 200
    assert tasks.get("/get-artifact", params=where).content == b"kept"
    listed = tasks.get(f"{API}/artifacts/list", params={"run_id": run["run_id"], "path": "folder"}).json()
    assert [file["path"] for file in listed["files"]] == ["folder/file.txt"]
    key = urlsplit(f"{run['artifact_uri']}/folder/file.txt").path.lstrip("/")
    assert key.startswith("previews/one/mlflow")
    assert boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"kept"


def new_run(http: httpx.Client, location: str | None = None) -> dict[str, str]:
    experiment = {"name": uuid4().hex, **({"artifact_location": location} if location else {})}
    created = http.post(f"{API}/experiments/create", json=experiment).raise_for_status().json()
    run = http.post(f"{API}/runs/create", json={"experiment_id": created["experiment_id"]}).raise_for_status().json()
    return dict(run["run"]["info"])


@pytest.mark.parametrize("path", ["../secret", "x/../../secret", "/etc/passwd", "..%2fsecret", "%252e%252e/secret"])
def test_a_path_out_of_a_runs_artifacts_is_refused(tasks: httpx.Client, path: str) -> None:
    run = new_run(tasks)
    folder = urlsplit(run["artifact_uri"]).path.strip("/").rpartition("/")[0]
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{folder}/secret", Body=b"secret")
    where = {"run_uuid": run["run_id"], "path": path}
    assert (read := tasks.get("/get-artifact", params=where)).content != b"secret"
    assert read.status_code >= 400
    files = f"/ajax-api/2.0/mlflow/logged-models/{register_model(tasks)}/artifacts/files"
    assert tasks.get(files, params={"artifact_file_path": path}).status_code >= 400
    assert tasks.post("/ajax-api/2.0/mlflow/upload-artifact", params=where, content=b"x").status_code == 400
    assert boto3.client("s3").get_object(Bucket=BUCKET, Key=f"{folder}/secret")["Body"].read() == b"secret"


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_older_locations_in_the_database_are_neither_read_nor_written(
    server: MlflowServer, tasks: httpx.Client, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    run, name, model_id = new_run(tasks), uuid4().hex, register_model(tasks)
    tasks.post(f"{API}/registered-models/create", json={"name": name}).raise_for_status()
    tasks.post(f"{API}/model-versions/create", json={"name": name, "source": f"{ROOT}/x"}).raise_for_status()
    location = f"{scheme}{tmp_path}"
    with closing(sqlite3.connect(server.database)) as database:
        database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (location, run["run_id"]))
        database.execute("UPDATE experiments SET artifact_location = ?", (location,))
        database.execute("UPDATE model_versions SET source = ?, storage_location = ?", (location, location))
        database.execute("UPDATE logged_models SET artifact_location = ?", (location,))
        database.commit()
    of_run, secret = {"run_uuid": run["run_id"]}, {"path": "secret"}
    answers = [
        tasks.get("/get-artifact", params=of_run | secret),
        tasks.get("/model-versions/get-artifact", params={"name": name, "version": "1"} | secret),
        tasks.get(
            f"/ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/files", params={"artifact_file_path": "secret"}
        ),
        tasks.get(f"{API}/artifacts/list", params={"run_id": run["run_id"]}),
        tasks.get(f"{API}/logged-models/{model_id}/artifacts/directories"),
        tasks.post("/ajax-api/2.0/mlflow/upload-artifact", params=of_run | {"path": "new"}, content=b"x"),
        tasks.post(f"{API}/runs/create", json={"experiment_id": run["experiment_id"]}),
        tasks.post(f"{API}/logged-models", json={"experiment_id": run["experiment_id"], "name": "another"}),
    ]
    assert [(answer.status_code, answer.json()["error_code"]) for answer in answers] == [
        (400, "INVALID_PARAMETER_VALUE")
    ] * len(answers)
    assert not [answer for answer in answers if answer.text == "secret"]
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


def register_model(http: httpx.Client) -> str:
    experiment = http.post(f"{API}/experiments/create", json={"name": uuid4().hex}).json()["experiment_id"]
    created = http.post(f"{API}/logged-models", json={"experiment_id": experiment, "name": "one"}).raise_for_status()
    return str(created.json()["model"]["info"]["model_id"])


# How it starts.


@pytest.mark.parametrize(
    "name",
    [
        *(f"MLFLOW_{user.upper()}_PASSWORD" for user in USERS),
        "MLFLOW_SERVER_ALLOWED_HOSTS",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_without_one_of_its_settings_it_does_not_start(tmp_path: Path, name: str, value: str | None) -> None:
    environment = mlflow_server.environment(tmp_path, free_port(), ROOT) | {name: value or ""}
    if value is None:
        del environment[name]
    done = subprocess.run([PYTHON, PROGRAM], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{name} is not set: set it and start the MLflow server again\n"


@pytest.mark.parametrize("root", ["/tmp/x", "file:///tmp/x", "s3://", "mlflow-artifacts:/"])
def test_it_does_not_start_with_artifacts_outside_a_bucket(tmp_path: Path, root: str) -> None:
    environment = mlflow_server.environment(tmp_path, free_port(), root)
    done = subprocess.run([PYTHON, PROGRAM], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"MLFLOW_DEFAULT_ARTIFACT_ROOT is {root}: it must be a folder of a bucket")


def test_no_password_is_in_its_arguments_or_its_log(server: MlflowServer) -> None:
    client(server, Authorization=httpx.BasicAuth(ADMIN, f"{PASSWORDS[ADMIN]}!")._auth_header).get("/")
    assert "password of" not in (server.database.parent / "log").read_text()
    assert not [word for word in psutil.Process(server.process_id).cmdline() if "password" in word]


def test_the_program_that_prepares_the_database_creates_the_schema_and_keeps_what_is_there(tmp_path: Path) -> None:
    environment = {**mlflow_server.environment(tmp_path, free_port(), ROOT), "HOME": str(tmp_path)}
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        subprocess.run([PYTHON, "-c", PREPARE_DATABASE], env=environment, check=True, capture_output=True)
        database.execute("INSERT INTO experiments (experiment_id, name, workspace) VALUES (7, 'kept', 'default')")
        database.commit()
        subprocess.run([PYTHON, "-c", PREPARE_DATABASE], env=environment, check=True, capture_output=True)
        assert database.execute("SELECT name FROM experiments WHERE experiment_id = 7").fetchall() == [("kept",)]


def test_a_compressed_body_is_refused_because_mlflow_unpacks_it_without_a_limit(server: MlflowServer) -> None:
    with client(server, SERVING) as http:
        bomb = gzip.compress(bytes(1_000_000))
        answer = http.post(SPANS, content=bomb, headers={"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json()["message"]) == (415, "Send the body uncompressed.")
