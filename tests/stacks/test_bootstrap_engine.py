"""`make bootstrap` with Pulumi's own engine, with its state and its key in the mock of AWS."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import automation

from infra.documents import REPOSITORY
from infra.images import content
from ops.aws.account import Account
from ops.pulumi.deployment import Deployment
from ops.pulumi.image_repositories import create_repositories
from ops.stacks.aws_stack import AwsStack
from tests.filled_settings import aws_settings
from tests.pulumi_engine import Engine, missing_programs

if missing := missing_programs():
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

REPOSITORIES = "aws:ecr/repository:Repository"
TEXT = (REPOSITORY / "Pulumi.dev.yaml").read_text()


@pytest.fixture
def engine(account: Account, state_in_mock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The project, whose state and key are in the mock of AWS."""
    engine = Engine(tmp_path, "dev", {"AWS_REGION": account.region})
    for name in ("PULUMI_HOME", "STANDIN_PYTHON", "PYTHONPATH"):
        monkeypatch.setenv(name, engine.environment[name])
    monkeypatch.setattr("ops.pulumi.deployment.REPOSITORY", engine.project)
    return engine


def dev() -> AwsStack:
    return AwsStack("dev", aws_settings("dev"), lambda _: None)


def repositories(resources: Sequence[Any]) -> set[str]:
    return {one["urn"].rpartition("::")[2] for one in resources if one["type"] == REPOSITORIES}


def state(deployment: Deployment) -> list[dict[str, Any]]:
    return list(json.loads(deployment.answer("stack", "export"))["deployment"]["resources"])


def test_bootstrap_appends_the_key_creates_the_repositories_and_can_be_rerun_in_another_clone(engine: Engine) -> None:
    file = engine.project / "Pulumi.dev.yaml"
    dev().bootstrap()
    written = file.read_text()
    assert written.startswith(TEXT)
    assert [line.partition(":")[0] for line in written.removeprefix(TEXT).splitlines()] == [
        "secretsprovider",
        "encryptedkey",
    ]
    expected = {f"{prefix}{image}-repository" for image in content.names() for prefix in ("", "preview-")}
    assert repositories(state(dev().deployment)) == expected
    file.write_text(TEXT)  # another clone
    dev().bootstrap()
    assert file.read_text() == written
    assert repositories(state(dev().deployment)) == expected


def test_the_first_deployment_keeps_the_repositories_of_bootstrap(engine: Engine) -> None:
    dev().bootstrap()
    preview = dev().deployment.answer("preview", "--json", "--show-sames", "--non-interactive")
    steps = json.loads(preview)["steps"]
    assert {step["op"] for step in steps if ":Registry" in step["urn"]} == {"same"}
    assert {step["op"] for step in steps} == {"same", "create"}
    assert (engine.project / "Pulumi.dev.yaml").read_text().startswith(TEXT)


def test_bootstrap_of_a_deployed_stack_keeps_its_resources_and_outputs(engine: Engine) -> None:
    dev().bootstrap()
    deployment = dev().deployment
    options = automation.LocalWorkspaceOptions(
        work_dir=str(engine.project), env_vars={name: str(value) for name, value in deployment.environment.items()}
    )

    def program() -> None:
        provider = pulumi.ComponentResource("test:test:Cluster", "cluster")
        pulumi.export("cluster", provider.urn)
        pulumi.export("kubeconfig", pulumi.Output.secret("the kubeconfig"))

    automation.select_stack("dev", project_name="airflow", program=program, opts=options).up()
    outputs = deployment.outputs()
    create_repositories(deployment, aws_settings("dev"), lambda _: None)
    assert outputs["kubeconfig"] == "the kubeconfig"
    assert deployment.outputs() == outputs
    assert "the kubeconfig" not in deployment.answer("stack", "export")
    assert [one["type"] for one in state(deployment) if one["urn"].endswith("::cluster")] == ["test:test:Cluster"]
