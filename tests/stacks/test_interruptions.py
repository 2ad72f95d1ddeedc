"""Killed and failed commands under Pulumi's engine, at every resource type; skipped if the Pulumi CLI is missing."""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import OperationError
from ops.aws.account import Account
from ops.cli import stacks as operations
from ops.doctor import doctor
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import Created
from ops.releases import deploy_checks
from ops.stacks.aws_stack import AwsStack
from ops.stacks.restored_database import DATABASE
from tests.filled_settings import aws_settings
from tests.programs import write_cloud_plugin
from tests.pulumi_engine import backend
from tests.recordings import recorded

if missing := [program for program in ("pulumi", "pulumi-language-python") if not shutil.which(program)]:
    pytest.skip(f"not on PATH: {', '.join(missing)}", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:.* has been deprecated in favor of:DeprecationWarning")

LOCKED = "^dev is locked by .*: wait until that command has ended, or run `make unlock STACK=dev` if it was killed$"
PACKAGES = ("aws", "kubernetes", "random")
PROGRAM = """
import json, pulumi

for type_ in json.load(open("types.json")):
    pulumi.CustomResource(type_, type_, {"version": open("version").read()})
"""


def resource_types() -> list[str]:
    """Return the types of all resources of the stacks on AWS."""
    resources = [one for one in recorded("prod").resources if one.custom]  # has every type of the others
    return sorted({one.type for one in resources if one.type.split(":")[0] in PACKAGES})


class InterruptedStack:
    """The stack dev, reduced to one resource per type, in a cloud that is a file."""

    def __init__(self, folder: Path, account: Account) -> None:
        self.types = resource_types()
        self.cloud, self.project = folder / "cloud.json", folder / "project"
        self.project.mkdir()
        self.cloud.write_text("{}")
        for name, text in {
            "Pulumi.yaml": "name: airflow\nruntime: python\n",
            "Pulumi.dev.yaml": "{}\n",
            "__main__.py": PROGRAM,
            "types.json": json.dumps(self.types),
            "version": "1",
        }.items():
            (self.project / name).write_text(text)
        for package in PACKAGES:
            write_cloud_plugin(folder, package)
        path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**backend(folder), "PATH": path, "CLOUD": str(self.cloud), "PULUMI_PARALLEL": "200"}
        self.deployment = Deployment("dev", "pulumi", environment, folder=self.project)
        self.deployment.select()
        self.account = account
        self.said: list[str] = []

    def run(self, command: str, interrupt: str = "") -> None:
        """Run a command, as if in a new process."""
        self.cloud.with_suffix(".waiting").unlink(missing_ok=True)
        interruption = {"INTERRUPT": interrupt, "REQUESTS": str(len(self.types))}
        environment = {**self.deployment.environment, **interruption}
        stack = AwsStack("dev", aws_settings("dev"), self.said.append)
        vars(stack).update(account=self.account, deployment=replace(self.deployment, environment=environment))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AwsStack, "look_up", lambda _, *creation: self._look_up(*creation))
            for resolve in ("resolve", "resolve_any"):
                patch.setattr(operations, resolve, lambda *_: stack)
            patch.setattr(doctor, "check_before_deployment", lambda *_: None)
            patch.setattr(operations, "check_images", lambda *_: None)
            patch.setattr(deploy_checks, "checked_release", lambda *_: None)
            patch.setattr(operations, "echo", self.said.append)
            getattr(operations, command)("dev", yes=True)

    def _look_up(self, type_: str, _inputs: Mapping[str, Any]) -> list[Created]:
        return [Created(type_)] if type_ in self.deployed else []

    def restore(self, type_: str, id_: str) -> None:
        """Replace a resource in the cloud with one that has another ID."""
        deployed = json.loads(self.cloud.read_text())
        deployed[id_] = deployed.pop(type_)
        self.cloud.write_text(json.dumps(deployed))

    @property
    def deployed(self) -> dict[str, str]:
        """The resources in the cloud."""
        return {type_: inputs["version"] for type_, inputs in json.loads(self.cloud.read_text()).items()}

    def in_state(self) -> dict[str, str]:
        """Return the resources in Pulumi's state."""
        content = self.deployment.exported()["deployment"]
        assert not content.get("pending_operations")
        resources = [each for each in content.get("resources", ()) if each["type"] in self.types]
        return {each["type"]: each["outputs"]["version"] for each in resources}

    @property
    def version(self) -> str:
        """The value that the program gives every resource."""
        return (self.project / "version").read_text()

    def change(self) -> None:
        """Change every resource of the program."""
        (self.project / "version").write_text(f"{self.version}+")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interruptions")


@pytest.fixture
def stack(tmp_path: Path, account: Account) -> InterruptedStack:
    return InterruptedStack(tmp_path, account)


def interrupted(stack: InterruptedStack, command: str, interrupt: str) -> None:
    """Interrupt a command at every resource; unlock the stack if it was killed."""
    with pytest.raises(OperationError, match=rf"failed: see the output above$|{LOCKED}"):
        stack.run(command, interrupt)
    assert sorted(stack.cloud.with_suffix(".waiting").read_text().split()) == stack.types
    if interrupt.endswith("kill"):
        stack.run("unlock")
        assert re.search(r"^dev is locked by .*@.* \(process \d+\) since ", stack.said[-1])


def is_complete(stack: InterruptedStack) -> bool:
    return stack.deployed == stack.in_state() == dict.fromkeys(stack.types, stack.version)


def test_a_failed_or_killed_deployment_continues(stack: InterruptedStack) -> None:
    for interrupt in ("create before fail", "create before kill", "create after kill"):
        interrupted(stack, "deploy", interrupt)
    stack.run("deploy")
    assert is_complete(stack)
    for interrupt in ("update before fail", "update before kill", "update after fail", "update after kill"):
        stack.change()
        interrupted(stack, "deploy", interrupt)
    stack.run("deploy")
    assert is_complete(stack)


def test_a_failed_or_killed_destruction_continues_or_is_deployed_again(stack: InterruptedStack) -> None:
    interrupted(stack, "deploy", "create after fail")
    for interrupt in ("delete before fail", "delete before kill", "delete after fail"):
        interrupted(stack, "destroy", interrupt)
    stack.run("deploy")
    assert is_complete(stack)
    interrupted(stack, "destroy", "delete after kill")
    stack.run("destroy")
    assert stack.deployed == stack.in_state() == {}


def test_a_command_that_meets_a_lock_names_the_command_that_releases_it(stack: InterruptedStack) -> None:
    interrupted(stack, "deploy", "create before kill")
    lock = stack.project.parent / "state/.pulumi/locks/organization/airflow/dev/1.json"
    lock.write_text('{"pid": 1, "username": "ci", "hostname": "h", "timestamp": "2026-01-31T12:00:00.123456789+01:00"}')
    for command in ("deploy", "destroy"):
        with pytest.raises(OperationError, match=LOCKED):
            stack.run(command)
    stack.run("unlock")
    assert stack.said[-1] == "dev is locked by ci@h (process 1) since 2026-01-31 11:00:00 UTC"
    stack.run("unlock")
    assert stack.said[-1] == "dev is not locked"


def test_a_database_that_was_restored_under_its_name_is_neither_created_again_nor_forgotten(
    stack: InterruptedStack, account: Account
) -> None:
    stack.run("deploy")
    restored = account.client("rds").create_db_instance(
        DBInstanceIdentifier="airflow-dev-database", DBInstanceClass="db.t4g.micro", Engine="postgres",
        MasterUsername="postgres", MasterUserPassword="longenough", AllocatedStorage=20,
    )["DBInstance"]["DbiResourceId"]  # fmt: skip
    stack.restore(DATABASE, restored)
    stack.change()
    stack.run("deploy")
    assert stack.in_state() == dict.fromkeys(stack.types, "1+")
    assert stack.deployed == {**dict.fromkeys(set(stack.types) - {DATABASE}, "1+"), restored: "1+"}
