"""Until when AWS supports the versions of a stack, and what EKS knows about the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from infra.aws.database import ENGINE_VERSION
from infra.errors import OperationError
from ops.aws.account import Account, aws_errors
from ops.aws.eks_cluster import EksCluster
from ops.doctor.outcome import Outcome, failed, passed, warning

# Time for a release to pass all stacks.
NOTICE = timedelta(days=90)
KUBERNETES_RUNBOOK = "docs/runbooks/upgrade-kubernetes.md"
POSTGRESQL_RUNBOOK = "docs/runbooks/upgrade-postgresql.md"
STANDARD_SUPPORT = "open-source-rds-standard-support"


def kubernetes(account: Account, version: str, cluster: EksCluster | None) -> Outcome:
    """Check how long EKS supports the version of Kubernetes."""
    with aws_errors():
        pages = account.client("eks").get_paginator("describe_cluster_versions").paginate(includeAll=True)
        ends = {
            each["clusterVersion"]: each["endOfStandardSupportDate"]
            for page in pages
            for each in page["clusterVersions"]
            if "endOfStandardSupportDate" in each
        }
    if version not in ends:
        raise OperationError(f"EKS does not list Kubernetes {version}")
    running = cluster.description["version"] if cluster else version
    return judge_kubernetes(version, running, ends[version], newest(list(ends)))


def judge_kubernetes(version: str, running: str, end: datetime, available: str) -> Outcome:
    """Judge the version in the settings, the one that runs, and the end of standard support."""
    if running != version:
        return failed(
            f"the cluster runs Kubernetes {running}, but the settings name {version}: set "
            f'airflow:cluster.kubernetes_version to "{running}", see {KUBERNETES_RUNBOOK}'
        )
    text = f"EKS supports Kubernetes {version} {_until(end)}; the newest is {available}"
    # https://docs.aws.amazon.com/eks/latest/userguide/view-upgrade-policy.html
    return _judge(text, end, f"EKS then upgrades the cluster automatically: see {KUBERNETES_RUNBOOK}")


def postgresql(account: Account) -> Outcome:
    """Check how long RDS supports the major version of PostgreSQL."""
    with aws_errors():
        pages = account.client("rds").get_paginator("describe_db_major_engine_versions").paginate(Engine="postgres")
        lifecycles = {
            each["MajorEngineVersion"]: each.get("SupportedEngineLifecycles", [])
            for page in pages
            for each in page["DBMajorEngineVersions"]
        }
    ends = [
        each["LifecycleSupportEndDate"]
        for each in lifecycles.get(ENGINE_VERSION, [])
        if each["LifecycleSupportName"] == STANDARD_SUPPORT
    ]
    if not ends:
        raise OperationError(f"RDS does not list the end of support of PostgreSQL {ENGINE_VERSION}")
    return judge_postgresql(ends[0], newest(list(lifecycles)))


def judge_postgresql(end: datetime, available: str) -> Outcome:
    """Judge the end of standard support."""
    text = f"RDS supports PostgreSQL {ENGINE_VERSION} {_until(end)}; the newest is {available}"
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/extended-support-charges.html
    return _judge(text, end, f"RDS then charges for Extended Support: see {POSTGRESQL_RUNBOOK}")


def upgrade_insights(account: Account, cluster: EksCluster) -> Outcome:
    """Check what EKS found that stands in the way of the next version, such as requests for removed APIs."""
    with aws_errors():
        pages = (
            account.client("eks")
            .get_paginator("list_insights")
            .paginate(clusterName=cluster.name, filter={"categories": ["UPGRADE_READINESS"]})
        )
        found = [
            (each["name"], each["insightStatus"]["status"], each["insightStatus"].get("reason", ""))
            for page in pages
            for each in page["insights"]
        ]
    return judge_insights(found)


def judge_insights(insights: Sequence[tuple[str, str, str]]) -> Outcome:
    """Judge EKS' upgrade insights, each with its name, status and reason."""
    bad = [f"{name} ({reason})" for name, status, reason in insights if status != "PASSING"]
    if not bad:
        return passed(f"EKS has no findings in {len(insights)} insights")
    text = f"{'; '.join(bad)}: see {KUBERNETES_RUNBOOK}"
    return failed(text) if any(status == "ERROR" for _, status, _ in insights) else warning(text)


def newest(versions: Sequence[str]) -> str:
    """Return the highest of dotted version numbers; others, such as `9.6.1-R1`, do not count."""
    numbers = [version for version in versions if version.replace(".", "").isdecimal()]
    return max(numbers, key=lambda version: tuple(map(int, version.split("."))))


def _until(end: datetime) -> str:
    return f"until {end:%Y-%m-%d}"


def _judge(text: str, end: datetime, consequence: str) -> Outcome:
    left = end - datetime.now(UTC)
    if left > NOTICE:
        return passed(text)
    return (warning if left > timedelta() else failed)(f"{text}. {consequence}")
