"""The checks of `make upgrade-check`. Facts come from recorded answers of AWS, servers and pip-audit's own output."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.stub import Stubber

from infra.documents import REPOSITORY
from infra.errors import OperationError
from infra.images.errors import ImageError
from ops.aws.account import Account
from ops.aws.eks_cluster import EksCluster
from ops.cli import app as command
from ops.doctor import advisories, image_ages, kinds, releases, support, upgrades
from ops.doctor.outcome import Check, Outcome, failed, passed, warning
from ops.images.ecr import Ecr, NoRepositoryError
from ops.kubernetes.cluster import NotFoundError
from ops.loopback import LOOPBACK
from ops.stacks.aws_stack import AwsStack
from tests.filled_settings import aws_settings
from tests.programs import write_program

NOW = datetime.now(UTC)
SOON, PAST, LATER = NOW + timedelta(days=30), NOW - timedelta(days=1), NOW + timedelta(days=400)
RUNNING = EksCluster("airflow-dev-cluster", "us-east-1", {"version": "1.35"})


def stub(service: str) -> tuple[Account, Stubber]:
    client = boto3.client(service, "us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    stubber = Stubber(client)
    stubber.activate()
    return Account(
        "123456789012", "arn:aws:iam::123456789012:user/ada", "us-east-1", Mock(client=lambda _: client)
    ), stubber


@pytest.mark.parametrize(
    ("outcome", "status", "text"),
    [
        (support.judge_kubernetes("1.35", "1.35", LATER, "1.36"), "passed", f"until {LATER:%Y-%m-%d}; the newest"),
        (support.judge_kubernetes("1.35", "1.35", SOON, "1.36"), "warning", "EKS then upgrades the cluster"),
        (support.judge_kubernetes("1.35", "1.35", PAST, "1.36"), "failed", f"until {PAST:%Y-%m-%d}"),
        (support.judge_kubernetes("1.35", "1.36", LATER, "1.36"), "failed", 'cluster.kubernetes_version to "1.36"'),
        (support.judge_postgresql(LATER, "18"), "passed", "RDS supports PostgreSQL 17 until"),
        (support.judge_postgresql(SOON, "18"), "warning", "RDS then charges for Extended Support: see docs/runbooks"),
        (support.judge_postgresql(PAST, "18"), "failed", "the newest is 18"),
        (support.judge_insights([("APIs", "PASSING", "")]), "passed", "EKS has no findings in 1 insights"),
        (support.judge_insights([("APIs", "PASSING", ""), ("Skew", "WARNING", "a node")]), "warning", "Skew (a node)"),
        (support.judge_insights([("APIs", "ERROR", "used"), ("Skew", "UNKNOWN", "?")]), "failed", "APIs (used); Skew"),
        (releases.judge("Airflow", "3.3.2", "3.3.2"), "passed", "3.3.2 is the newest release of Airflow"),
        (releases.judge("Airflow", "3.3.2", "3.10.0"), "warning", "3.10.0 of Airflow is released, and 3.3.2 is pinned"),
        (releases.judge("Airflow", "3.3.2", "3.3.1"), "passed", "3.3.2 is the newest"),
        (image_ages.judge(3, {"HIGH": 0}), "passed", "pushed 3 days ago, 0 critical and 0 high findings"),
        (image_ages.judge(3, {"CRITICAL": 2, "LOW": 9}), "warning", "2 critical and 0 high findings: update its base"),
        (image_ages.judge(91, None), "warning", "pushed 91 days ago, not scanned: update its base image"),
        (kinds.judge({("v1", "Pod")}, [], []), "passed", "the cluster serves all 1 kinds of objects"),
        (kinds.judge({("v1", "Pod")}, [], ["v1 Pod is deprecated"]), "warning", "v1 Pod is deprecated: change the"),
        (kinds.judge({("v1", "Pod")}, ["Pod of v1"], ["old"]), "failed", "the cluster does not serve Pod of v1"),
    ],
)  # fmt: skip
def test_facts_are_judged(outcome: Outcome, status: str, text: str) -> None:
    assert outcome.status == status
    assert text in outcome.text


def test_support_dates_come_from_eks_and_rds() -> None:
    eks, answers = stub("eks")
    listed = [
        {"clusterVersion": "1.34", "endOfStandardSupportDate": PAST},
        {"clusterVersion": "1.35", "endOfStandardSupportDate": LATER},
        {"clusterVersion": "1.9", "endOfStandardSupportDate": PAST},
    ]
    for _ in range(3):
        answers.add_response("describe_cluster_versions", {"clusterVersions": listed}, {"includeAll": True})
    assert (
        support.kubernetes(eks, "1.35", None).text
        == f"EKS supports Kubernetes 1.35 until {LATER:%Y-%m-%d}; the newest is 1.35"
    )
    assert support.kubernetes(eks, "1.34", RUNNING).status == "failed"
    with pytest.raises(OperationError, match=r"^EKS does not list Kubernetes 1\.50$"):
        support.kubernetes(eks, "1.50", None)
    rds, answers = stub("rds")
    lifecycle = [
        {
            "LifecycleSupportName": f"open-source-rds-{kind}-support",
            "LifecycleSupportStartDate": PAST,
            "LifecycleSupportEndDate": end,
        }
        for kind, end in (("extended", LATER), ("standard", SOON))
    ]
    versions = [{"MajorEngineVersion": "9.6"}, {"MajorEngineVersion": "17", "SupportedEngineLifecycles": lifecycle}]
    for found in (versions, versions[:1]):
        answers.add_response(
            "describe_db_major_engine_versions", {"DBMajorEngineVersions": found}, {"Engine": "postgres"}
        )
    assert support.postgresql(rds).text.startswith(
        f"RDS supports PostgreSQL 17 until {SOON:%Y-%m-%d}; the newest is 17."
    )
    with pytest.raises(OperationError, match=r"^RDS does not list the end of support of PostgreSQL 17$"):
        support.postgresql(rds)


def test_insights_of_the_clusters_next_version_come_from_eks() -> None:
    eks, answers = stub("eks")
    found = [{"name": "Deprecated APIs", "insightStatus": {"status": "ERROR", "reason": "v1beta1 was requested"}}]
    asked = {"clusterName": RUNNING.name, "filter": {"categories": ["UPGRADE_READINESS"]}}
    answers.add_response("list_insights", {"insights": found}, asked)
    outcome = support.upgrade_insights(eks, RUNNING)
    assert outcome == failed("Deprecated APIs (v1beta1 was requested): see docs/runbooks/upgrade-kubernetes.md")


def test_the_newest_image_of_a_repository_counts_and_signatures_do_not() -> None:
    ecr, answers = stub("ecr")
    old = {"imageTags": ["a"], "imagePushedAt": NOW - timedelta(days=200)}
    new = {"imageTags": ["b"], "imagePushedAt": NOW - timedelta(days=2)}
    signature = {"imageTags": ["sha256-1.sig"], "imagePushedAt": NOW}
    scanned = new | {"imageScanFindingsSummary": {"findingSeverityCounts": {"HIGH": 4}}}
    clean = new | {"imageScanFindingsSummary": {"imageScanCompletedAt": NOW}}
    for found in ([scanned, old, signature], [clean], [old, signature], [signature]):
        answers.add_response("describe_images", {"imageDetails": found}, {"repositoryName": "airflow-dev/ml"})
    answers.add_client_error("describe_images", "RepositoryNotFoundException")
    registry = Ecr("dev", ecr)
    assert image_ages.image(registry, "ml").text.startswith("pushed 2 days ago, 0 critical and 4 high findings: update")
    assert image_ages.image(registry, "ml") == passed("pushed 2 days ago, 0 critical and 0 high findings")
    assert image_ages.image(registry, "ml").text.startswith("pushed 200 days ago, not scanned: update its base image")
    with pytest.raises(ImageError, match=r"airflow-dev/ml is empty: run `make images STACK=dev`"):
        image_ages.image(registry, "ml")
    with pytest.raises(NoRepositoryError, match=r"make bootstrap STACK=dev"):
        image_ages.image(registry, "ml")


@pytest.fixture
def archive() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a web server, and its pages, by path."""
    pages: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}/", pages
        server.shutdown()
        thread.join()


def test_the_newest_release_is_read_from_the_archive(archive: tuple[str, dict[str, str]]) -> None:
    url, pages = archive
    links = ["../", "1.10.15/", "3.9.0/", "3.10.1/", "3.11.0rc1/", "providers/", "helm-chart/"]
    pages["/"] = "\n".join(f'<a href="{link}">{link}</a> 2026-11-01 10:00' for link in links)
    assert releases._newest(url) == "3.10.1"
    pages["/"] = "<html>Log in to the network</html>"
    with pytest.raises(OperationError, match=r"lists no releases: check that no proxy answers in its place$"):
        releases._newest(url)
    with pytest.raises(OperationError, match=r"cannot be read \(.*404.*\): check the network$"):
        releases._newest(f"{url}none/")


AUDITED = [
    {"name": "requests", "version": "2.31.0", "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.32.0", "2.33.0"]}, {"id": "PYSEC-2", "fix_versions": []}]},
    {"name": "idna", "version": "3.10", "vulns": []},
]  # fmt: skip
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "outcome"),
    [
        (AUDITED, warning("1 of 2 packages have advisories: requests 2.31.0 (PYSEC-1, fixed in 2.32.0, PYSEC-2, no fix)"
                          ": run `make requirements UPGRADE=1`, then `make test`")),
        (AUDITED[1:], passed("none of 1 packages has an advisory")),
        ([*AUDITED, SKIPPED], "warning"),
        ([AUDITED[1], SKIPPED], "unknown"),
    ],
)  # fmt: skip
def test_advisories_are_read_from_pip_audit(
    packages: list[dict[str, Any]], outcome: Outcome | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found").write_text(json.dumps({"dependencies": packages, "fixes": []}))
    # It ends with 1 if it has found something.
    program = f"#!/bin/sh\necho Found 2 known vulnerabilities >&2\ncat {tmp_path / 'found'}\nexit 1\n"
    monkeypatch.setattr(advisories, "PIP_AUDIT", write_program(tmp_path / "pip-audit", program))
    found = advisories.advisories("ml")
    assert found == outcome if isinstance(outcome, Outcome) else found.status == outcome


def test_an_audit_without_a_result_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "#!/bin/sh\necho ERROR: no connection >&2\nexit 1\n"
    monkeypatch.setattr(advisories, "PIP_AUDIT", write_program(tmp_path / "pip-audit", program))
    with pytest.raises(OperationError, match=r"^pip-audit ends without a result \(ERROR: no connection\): check the"):
        advisories.advisories("ml")


def test_the_requirements_that_are_audited_contain_all_that_is_in_images() -> None:
    def packages(name: str) -> set[str]:
        lines = (REPOSITORY / "requirements" / f"{name}.txt").read_text().splitlines()
        return {line.partition(" ")[0] for line in lines if line and not line.startswith((" ", "#"))}

    assert packages("airflow") <= packages("ml")
    dockerfiles = REPOSITORY.glob("images/*/Dockerfile")
    copied = {word for file in dockerfiles for word in file.read_text().split() if word.endswith(".txt")}
    named = {Path(word).stem for word in copied if word.startswith("requirements/")}
    assert named - {"airflow", "data", "uv", "weights"} <= set(advisories.REQUIREMENTS)
    assert named


def test_own_objects_are_compared_with_what_the_cluster_serves() -> None:
    def warnings(kind: str, version: str) -> list[str]:
        return [f"{version} {kind} is deprecated"] if kind == "Job" else []

    def refuse(kind: str, version: str) -> list[str]:
        if kind == "NetworkPolicy":
            raise NotFoundError("no such kind")
        return warnings(kind, version)

    assert kinds.own_apis("local", Mock(warnings=warnings)) == warning(
        "batch/v1 Job is deprecated: change the program before you upgrade Kubernetes"
    )
    assert kinds.own_apis("local", Mock(warnings=refuse)) == failed(
        "the cluster does not serve NetworkPolicy of networking.k8s.io/v1: install it, or change the program"
    )


def test_all_checks_of_a_stack_on_aws_have_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = AwsStack("dev", aws_settings("dev"), pytest.fail)
    vars(stack).update(account=stub("eks")[0], eks_cluster=None)
    names = [check.name for check in upgrades.checks(stack)]
    assert names[:3] == ["Kubernetes", "EKS insights", "PostgreSQL"]
    assert {"image airflow", "own objects", "Airflow", "chart", "packages ml", "packages torch"} <= set(names)
    [insights] = [check for check in upgrades.checks(stack) if check.name == "EKS insights"]
    assert insights.outcome().text == "there is no cluster yet"


@pytest.mark.parametrize(("outcome", "code"), [(warning("soon"), None), (failed("too late"), 1)])
def test_the_command_shows_every_outcome_and_exits_with_1_if_one_failed(
    outcome: Outcome, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Check("Kubernetes", partial(lambda each: each, outcome)), Check("chart", lambda: passed("the newest"))]
    monkeypatch.setattr(upgrades, "checks", lambda _: found)
    monkeypatch.setattr(sys, "argv", ["ops", "upgrade-check", "local"])
    if code:
        with pytest.raises(SystemExit, match=f"^{code}$"):
            command.main()
    else:
        command.main()
    assert (
        capsys.readouterr().out
        == f"{outcome.status:<8} Kubernetes       {outcome.text}\npassed   chart            the newest\n"
    )
