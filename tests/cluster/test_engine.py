"""The stack `local` with Pulumi's engine and its Kubernetes plugin, in separate namespaces."""

import os
from collections.abc import Iterator

import pytest
import yaml

from infra.existing_cluster.context import current_context
from infra.settings import PROJECT
from tests.pulumi_engine import Engine, missing_programs

from .conftest import ready
from .stack import STACK, get, kubectl, wait_until

NAMESPACE = "engine"

if missing := missing_programs():
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine"), STACK, {"KUBECONFIG": os.environ["KUBECONFIG"]})
    file = engine.project / f"Pulumi.{STACK}.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["config"] |= {f"{PROJECT}:contexts": [current_context()], f"{PROJECT}:namespace": NAMESPACE}
    file.write_text(yaml.safe_dump(settings))
    engine.run("stack", "init", STACK)
    engine.run("up", "--yes", "--skip-preview")
    yield engine
    engine.run("destroy", "--yes", "--skip-preview")


def test_everything_is_ready_when_the_update_ends(engine: Engine) -> None:
    assert ready(NAMESPACE)


def test_a_second_update_would_change_nothing(engine: Engine) -> None:
    engine.run("preview", "--expect-no-changes")


def test_a_refresh_finds_no_drift(engine: Engine) -> None:
    engine.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")


def test_a_change_of_values_changes_what_it_concerns(engine: Engine) -> None:
    values = engine.project / "helm-values" / f"airflow-{STACK}.yaml"
    changed = yaml.safe_load(values.read_text())
    changed["triggerer"] = {"resources": {"requests": {"cpu": "60m", "memory": "256Mi"}}}
    values.write_text(yaml.safe_dump(changed))
    before = generations()
    engine.run("up", "--yes", "--skip-preview")
    wait_until(lambda: ready(NAMESPACE), "the change")
    after = generations()
    assert [name for name in after if after[name] != before[name]] == ["airflow-triggerer"]


def generations() -> dict[str, int]:
    items = get("deployments", namespace=NAMESPACE)["items"]
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}


def test_destroying_leaves_nothing(engine: Engine) -> None:
    engine.run("destroy", "--yes", "--skip-preview")
    assert [one["urn"] for one in engine.state() if one.get("custom")] == []
    assert f"namespace/{NAMESPACE}" not in kubectl("get", "namespaces", "-o", "name")
    assert NAMESPACE not in kubectl("get", "priorityclasses,validatingadmissionpolicies", "-o", "name")
