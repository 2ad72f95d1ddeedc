"""Tests of the model registry on a laptop, and of its logins."""

import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.errors import OperationError
from ops.laptop import airflow, mlflow, ports, serving
from ops.laptop.home import Home

PASSWORDS = ("MLFLOW_ADMIN_PASSWORD", "MLFLOW_TASKS_PASSWORD", "MLFLOW_SERVING_PASSWORD")


def test_the_server_gets_passwords_only_in_its_environment(home: Home) -> None:
    secrets, service = home.secrets, mlflow.service(home, ports.choose(home))
    passwords = [secrets.mlflow_admin, secrets.mlflow_tasks, secrets.mlflow_serving]
    assert [service.environment[name] for name in PASSWORDS] == passwords
    assert not any(password in " ".join(service.command) for password in passwords)


def test_its_temporary_files_are_in_a_private_folder(home: Home) -> None:
    folder = Path(mlflow.service(home, ports.choose(home)).environment["TMPDIR"])
    assert folder.is_relative_to(home.root)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_it_accepts_only_its_own_address_and_port(home: Home) -> None:
    chosen = ports.choose(home)
    hosts = mlflow.service(home, chosen).environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert hosts == [f"127.0.0.1:{chosen['mlflow']}", f"localhost:{chosen['mlflow']}"]


def test_tasks_and_the_model_server_get_only_their_own_login(home: Home) -> None:
    chosen, secrets = ports.choose(home), home.secrets
    environments = {
        ("tasks", secrets.mlflow_tasks): airflow.environment(home, chosen),
        ("serving", secrets.mlflow_serving): serving.service(home, chosen, "1").environment,
    }
    everything = {secrets.mlflow_admin, secrets.mlflow_tasks, secrets.mlflow_serving}
    for (user, password), variables in environments.items():
        assert (variables["MLFLOW_TRACKING_USERNAME"], variables["MLFLOW_TRACKING_PASSWORD"]) == (user, password)
        assert set(variables.values()) & everything == {password}


@pytest.fixture
def registry(home: Home) -> Iterator[dict[str, int]]:
    """A server that returns the champion, version 7, to the user `serving`."""
    login = b64encode(f"serving:{home.secrets.mlflow_serving}".encode()).decode()
    answers = {"image_classifier": (200, b'{"model_version": {"version": "7"}}'), "none": (404, b"{}")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Basic {login}"
            model = "image_classifier" if "name=image_classifier&" in self.path else "none"
            code, body = answers[model] if known else (401, b"log in")
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield {"mlflow": server.server_port}
    server.shutdown()
    server.server_close()


def test_the_champion_is_looked_up_with_the_login_of_serving(home: Home, registry: dict[str, int]) -> None:
    assert serving.champion(home, registry) == "7"


def test_a_registry_without_the_model_has_no_champion(
    home: Home, registry: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "DEMO", serving.Served("another", "serving"))
    assert serving.champion(home, registry) is None


def test_a_rejected_login_is_an_error_and_not_an_empty_registry(
    home: Home, tmp_path_factory: pytest.TempPathFactory, registry: dict[str, int]
) -> None:
    another = Home(tmp_path_factory.mktemp("another"))
    with pytest.raises(OperationError, match=r"^MLflow answered 401 to the request for the champion: log in$"):
        serving.champion(another, registry)


def test_what_another_dag_serves_gets_its_own_process_and_port(home: Home) -> None:
    chosen = ports.choose(home)
    churn = serving.Served.named("churn", "churn_model")
    added = ports.add(home, churn.process)
    assert serving.url(added, churn) != serving.url(added)
    service = serving.service(home, added, "2", churn)
    assert (service.name, service.environment["MODEL_NAME"]) == ("serving-churn", "churn_model")
    assert service.port not in chosen.values()
    assert ports.add(home, churn.process) == ports.choose(home) == {**chosen, "serving-churn": service.port}


def test_the_model_of_make_up_keeps_its_port_whatever_its_name(home: Home) -> None:
    assert serving.Served.named("image-classifier", "image_classifier") == serving.DEMO


def test_a_model_server_finds_only_the_code_of_its_version(home: Home) -> None:
    assert "PYTHONPATH" not in serving.service(home, ports.choose(home), "1").environment
