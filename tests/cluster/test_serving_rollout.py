"""The task `deploy` against a real API server, scheduler and kubelet, in a namespace under Pod Security `restricted`.

The image responds like images/serving but contains no model, because the test is about the rollout.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client, config

from ml_common import kubernetes_rollout
from ml_common.errors import PermanentError
from ml_common.serving_manifests import ServingSettings

from .stack import load

NAME = "churn"
NAMESPACE = "serving-rollout-test"
IMAGE = "example.com/serving-rollout-test:1"
BASE_IMAGE = os.environ.get("TEST_BASE_IMAGE", "docker.io/library/python:3.12.11-slim-bookworm")
SERVER = """
import json, os, signal
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"version": os.environ["MODEL_VERSION"]}).encode())

# Without a handler the first process of a container ignores SIGTERM.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if os.environ["MODEL_VERSION"] == "broken":
    raise SystemExit("the model cannot be loaded")
HTTPServer(("0.0.0.0", int(os.environ["SERVING_PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image with buildah and load it onto the node with the command in IMAGE_LOAD."""
    folder: Path = tmp_path_factory.mktemp("image")
    (folder / "server.py").write_text(SERVER)
    (folder / "Dockerfile").write_text(
        f'FROM {BASE_IMAGE}\nCOPY server.py /server.py\nENTRYPOINT ["python3", "-u", "/server.py"]\n'
    )
    local = "localhost/serving-rollout-test"
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    command = ["buildah", "build", "--quiet", "--layers", "--tag", local, str(folder)]
    subprocess.run(command, check=True, env=environment)
    load(local, IMAGE)
    return IMAGE


@pytest.fixture(scope="module")
def core() -> client.CoreV1Api:
    config.load_kube_config()
    return client.CoreV1Api()


@pytest.fixture(scope="module")
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE, labels=enforced)))
    wait_until(lambda: core.list_namespaced_service_account(NAMESPACE, field_selector="metadata.name=default").items)
    yield NAMESPACE
    core.delete_namespace(NAMESPACE)


@pytest.fixture
def served(namespace: str, image: str) -> ServingSettings:
    """Roll out version 1."""
    settings = ServingSettings(NAME, namespace, image, "default")
    assert kubernetes_rollout.roll_out(settings, "1") == f"http://{NAME}.{namespace}.svc:8080"
    return settings


def wait_until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def served_version(core: client.CoreV1Api) -> str:
    """Send a request to the Service's address, as a pod of the cluster does."""
    address = core.read_namespaced_service(NAME, NAMESPACE).spec.cluster_ip
    return str(httpx.get(f"http://{address}:8080/healthz", timeout=10).json()["version"])


def deployment() -> Any:
    return client.AppsV1Api().read_namespaced_deployment(NAME, NAMESPACE)


def test_a_version_answers_over_its_service(served: ServingSettings, core: client.CoreV1Api) -> None:
    assert served_version(core) == "1"


def test_rolling_out_the_same_version_again_changes_nothing(served: ServingSettings, core: client.CoreV1Api) -> None:
    before = deployment().metadata.generation
    kubernetes_rollout.roll_out(served, "1")
    assert deployment().metadata.generation == before


def test_another_version_replaces_it_without_a_failed_request(served: ServingSettings, core: client.CoreV1Api) -> None:
    with ThreadPoolExecutor(1) as pool:
        rollout = pool.submit(kubernetes_rollout.roll_out, served, "2")
        meanwhile = []
        while not rollout.done():
            meanwhile.append(served_version(core))
    assert {served_version(core) for _ in range(50)} == {"2"}
    assert set(meanwhile) == {"1", "2"}
    rollout.result()


def test_a_version_that_cannot_start_is_refused_within_a_minute_and_the_old_one_keeps_serving(
    served: ServingSettings, core: client.CoreV1Api
) -> None:
    began = time.monotonic()
    with pytest.raises(PermanentError, match="the old version keeps serving: CrashLoopBackOff"):
        kubernetes_rollout.roll_out(served, "broken")
    assert time.monotonic() - began < 60
    assert served_version(core) == "1"


def test_an_image_that_cannot_be_pulled_is_named_within_a_minute_and_the_old_one_keeps_serving(
    served: ServingSettings, core: client.CoreV1Api
) -> None:
    missing = ServingSettings(NAME, served.namespace, "example.com/no-such-image:1", "default")
    began = time.monotonic()
    with pytest.raises(PermanentError, match=r"ErrImagePull|ImagePullBackOff") as refused:
        kubernetes_rollout.roll_out(missing, "3")
    assert "example.com/no-such-image:1" in str(refused.value)
    assert time.monotonic() - began < 60
    assert served_version(core) == "1"


def test_a_namespace_that_is_not_there_is_named(served: ServingSettings) -> None:
    with pytest.raises(PermanentError, match="404"):
        kubernetes_rollout.roll_out(ServingSettings(NAME, "no-such-namespace", served.image, "default"), "1")
