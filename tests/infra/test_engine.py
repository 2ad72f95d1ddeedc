"""The program in the Pulumi engine with a local backend; skipped if `pulumi` or a provider is missing."""

import json

import pytest

from tests.pulumi_engine import Engine, missing_programs

if missing := missing_programs():
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = Engine(tmp_path_factory.mktemp("engine"), "dev", {"AWS_REGION": "us-east-1"})
    engine.run("stack", "init", engine.stack)
    engine.run("up", "--yes", "--skip-preview")
    return engine


def test_a_second_update_changes_nothing(engine: Engine) -> None:
    engine.run("preview", "--expect-no-changes")


def test_passwords_are_encrypted_in_the_state(engine: Engine) -> None:
    passwords = [one for one in engine.state() if one["type"] == "random:index/randomPassword:RandomPassword"]
    assert passwords
    for holder in (
        *passwords,
        *(one for one in engine.state() if one["type"] == "aws:rds/instance:Instance"),
    ):
        value = holder["outputs"].get("result") or holder["outputs"].get("password")
        assert "ciphertext" in value


def test_destroying_removes_everything_and_the_network_last(engine: Engine) -> None:
    log = engine.project.parent / "log"
    engine.environment["STANDIN_LOG"] = str(log)
    engine.run("destroy", "--yes", "--skip-preview")
    assert [one for one in engine.state() if one.get("custom")] == []
    deleted = [one["urn"].rpartition("::")[2] for one in map(json.loads, log.read_text().splitlines())]
    assert deleted.index("cluster") < deleted.index("nat-gateway-us-east-1a") < deleted.index("vpc")
