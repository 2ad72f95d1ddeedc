"""The permissions of a recorded stack, on AWS and in the cluster."""

from __future__ import annotations

import re

from ops.plan import iam, kubernetes_permissions
from ops.plan.grants import Grant
from ops.plan.resources import Recording


def grants(recording: Recording) -> list[Grant]:
    """Return all permissions."""
    return [*iam.grants(recording), *kubernetes_permissions.grants(recording)]


def matrix(recording: Recording) -> tuple[list[str], dict[str, dict[str, list[str]]]]:
    """Return the resources that components may use, and for each component its allowed actions by resource.

    A component without permissions has an empty row. Resource names are shortened.
    """
    in_cluster = list(kubernetes_permissions.grants(recording))
    links = recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    accounts = {link.inputs["serviceAccount"] for link in links} | {grant.who for grant in in_cluster}
    rows: dict[str, dict[str, list[str]]] = {account: {} for account in sorted(accounts)}
    for grant in (*iam.grants(recording), *in_cluster):
        if grant.who in rows and grant.effect == "Allow":
            for resource in grant.resources:
                cell = rows[grant.who].setdefault(_short(resource, recording), [])
                cell += [action.split(":")[-1] for action in grant.actions]
    return sorted({column for row in rows.values() for column in row}), rows


def _short(resource: str, recording: Recording) -> str:
    """Shorten an ARN: `arn:aws:s3:::airflow-dev-data-123456789012/images/*` is `data/images/*`."""
    if not resource.startswith("arn:"):
        return resource
    name = resource.rsplit(":", maxsplit=1)[-1].removeprefix(f"{recording.project}-{recording.stack}-")
    return re.sub(r"-\d{12}(?=/|$)", "", name)
