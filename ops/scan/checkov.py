"""Run checkov, in its own environment, on what stacks create."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.documents import REPOSITORY
from infra.errors import OperationError
from ops.plan import manifests
from ops.plan.resources import Recording
from ops.process_environment import SYSTEM, allowed
from ops.scan import terraform

CHECKOV = REPOSITORY / ".venv-scan" / "bin" / "checkov"
FRAMEWORKS = ("terraform_json", "kubernetes")


@dataclass(frozen=True, order=True)
class Finding:
    """A check that a resource of a stack does not pass.

    Attributes:
        check: The check's id, such as CKV_AWS_39.
        title: What the check requires.
        stack: The stack.
        resource: The resource: its logical name, or `<Kind>.<namespace>.<name>` of a Kubernetes object.
    """

    check: str
    title: str
    stack: str
    resource: str


@dataclass(frozen=True)
class Scan:
    """The result of a scan: the number of passed checks, and the findings."""

    passed: int
    findings: tuple[Finding, ...]


def scan(recordings: Iterable[Recording]) -> Scan:
    """Scan the AWS resources and the Kubernetes objects of stacks.

    Raises:
        OperationError: checkov ends without a result.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recording in recordings:
            _write(recording, folder / recording.stack)
        reports = _reports(folder)
    passed = sum(report["summary"]["passed"] for report in reports)
    return Scan(passed, tuple(sorted({finding for report in reports for finding in _findings(report)})))


def _write(recording: Recording, folder: Path) -> None:
    folder.mkdir()
    (folder / "main.tf.json").write_text(json.dumps(terraform.configuration(recording)))
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(manifests.objects(recording)))


def _reports(folder: Path) -> list[dict[str, Any]]:
    options = ["--framework", *FRAMEWORKS, "--output", "json", "--quiet", "--compact", "--soft-fail", "--skip-download"]
    command = [str(CHECKOV), "--directory", str(folder), *options]
    # A user's configuration file must not change the result.
    environment = {**allowed(SYSTEM), "HOME": str(folder)}
    done = subprocess.run(command, check=False, cwd=folder, env=environment, stdout=subprocess.PIPE)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise OperationError(
            "checkov ended without a result (see its output above): run `rm -r .venv-scan`, then `make scan` again"
        ) from None
    return found if isinstance(found, list) else [found]


def _findings(report: Mapping[str, Any]) -> Iterator[Finding]:
    for failed in report["results"]["failed_checks"]:
        stack = failed["file_path"].split("/")[1]
        resource = failed["resource"]
        if report["check_type"] == "terraform_json":
            resource = resource.rpartition(".")[2]
        yield Finding(failed["check_id"], failed["check_name"], stack, resource)
