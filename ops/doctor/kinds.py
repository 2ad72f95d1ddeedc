"""The APIs of a stack's own objects, as its cluster serves them."""

from __future__ import annotations

from collections.abc import Collection

from ops.doctor.outcome import Outcome, failed, passed, warning
from ops.kubernetes.cluster import Cluster, NotFoundError
from ops.plan.manifests import objects
from ops.plan.recording import record

Kind = tuple[str, str]


def own_apis(stack: str, cluster: Cluster) -> Outcome:
    """Check that the cluster serves the APIs of a stack's own objects, and that none is deprecated."""
    cluster.check()
    kinds = {(each["apiVersion"], each["kind"]) for each in objects(record(stack))}
    missing, deprecated = [], []
    for version, kind in sorted(kinds):
        try:
            deprecated += cluster.warnings(kind, version)
        except NotFoundError:
            missing.append(f"{kind} of {version}")
    return judge(kinds, missing, deprecated)


def judge(kinds: Collection[Kind], missing: Collection[str], deprecated: Collection[str]) -> Outcome:
    """Judge what the cluster does not serve, and its warnings."""
    if missing:
        return failed(f"the cluster does not serve {', '.join(missing)}: install it, or change the program")
    if deprecated:
        return warning(f"{'; '.join(deprecated)}: change the program before you upgrade Kubernetes")
    return passed(f"the cluster serves all {len(kinds)} kinds of objects, and none is deprecated")
