"""The steps before and after the resources of a stack on AWS are deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from infra.errors import OperationError
from ops.aws.account import Account, aws_errors, error_code
from ops.console import Echo
from ops.pulumi.deployment import Deployment
from ops.teardown.cluster_contents import delete_contents
from ops.teardown.sweep import sweep

MISSING = ("ResourceNotFoundException", "DBInstanceNotFound")


def prepare(
    account: Account, deployment: Deployment, outputs: Mapping[str, Any], echo: Echo, *, protected: bool
) -> None:
    """Delete the contents of a stack's cluster, and disable deletion protection.

    Raises:
        OperationError: A step failed.
    """
    cluster = outputs.get("cluster_name", "")
    if cluster and _cluster_exists(account, cluster):
        delete_contents(json.loads(outputs["kubeconfig"]), echo)
    if protected:
        echo("disabling deletion protection")
        deployment.run("state", "unprotect", "--all", "--yes")
        _lift_protection(account, cluster, outputs)


def report(account: Account, stack: str, echo: Echo) -> None:
    """Report that nothing of a stack is left in the account.

    Raises:
        OperationError: Resources are left. They are printed first.
    """
    left = sweep(account, stack)
    for leftover in left:
        echo(f"left: {leftover.arn}{f' ({leftover.note})' if leftover.note else ''}")
    if left:
        raise OperationError(
            f"{len(left)} resources of {stack} are left in account {account.id}: delete the ones listed above"
        )
    echo(f"nothing of {stack} is left in account {account.id}, {account.region}: no resource has its tags or names")


def _cluster_exists(account: Account, name: str) -> bool:
    with _ignoring_missing():
        account.client("eks").describe_cluster(name=name)
        return True
    return False


def _lift_protection(account: Account, cluster: str, outputs: Mapping[str, Any]) -> None:
    """Disable AWS' own deletion protection, in addition to Pulumi's."""
    with _ignoring_missing():
        if cluster:
            account.client("eks").update_cluster_config(name=cluster, deletionProtection=False)
    with _ignoring_missing():
        if host := outputs.get("database_host"):
            account.client("rds").modify_db_instance(
                DBInstanceIdentifier=host.split(".", maxsplit=1)[0], DeletionProtection=False, ApplyImmediately=True
            )


@contextmanager
def _ignoring_missing() -> Iterator[None]:
    """Ignore resources that are already deleted, so that an interrupted destruction can be repeated."""
    with aws_errors():
        try:
            yield
        except ClientError as error:
            if error_code(error) not in MISSING:
                raise
