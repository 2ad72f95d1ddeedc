"""Delete a stack on AWS: its cluster's contents, Pulumi's resources, and what the cluster left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from infra.aws.names import Limit, Names
from infra.errors import OperationError
from infra.settings import PROJECT
from ops.aws.account import Account, aws_errors
from ops.aws.eks_cluster import describe
from ops.console import Echo
from ops.pulumi.deployment import Deployment
from ops.teardown.cluster_contents import delete_contents
from ops.teardown.kept import delete_repositories, keep_buckets_with_data
from ops.teardown.leaks import KEEP_TAG, Leaks
from ops.teardown.reserved_names import free_names
from ops.teardown.sweep import sweep


def destroy(
    account: Account, deployment: Deployment, access: Mapping[str, Any] | None, echo: Echo, *, protected: bool
) -> None:
    """Delete a stack; keep the data of a protected stack.

    Args:
        account: The account.
        deployment: The stack's deployment.
        access: The kubeconfig of its cluster; None if there is no cluster.
        echo: Prints progress.
        protected: Whether resources with data are protected from deletion.

    Raises:
        OperationError: A step failed. Everything can be repeated.
    """
    names = Names(PROJECT, deployment.stack)
    if access:
        _keep_volumes(account, delete_contents(access, echo))
    if protected:
        keep_buckets_with_data(account, deployment, echo)
        delete_repositories(account, names, echo)
        _lift_protection(account, names, echo)
    leaks = Leaks(account, names, echo)
    deployment.run("destroy", "--yes", "--skip-preview", "--refresh", "--exclude-protected", watch=leaks.watch)
    leaks.delete()
    free_names(account, names, deployment.ids(), echo)


def report(account: Account, stack: str, echo: Echo, managed: Collection[str] = ()) -> None:
    """List what is kept on purpose, and report that nothing else of a stack is left in the account.

    Args:
        account: The account.
        stack: The stack.
        echo: Prints the report.
        managed: The ARNs of resources that Pulumi kept.

    Raises:
        OperationError: Other resources are left. They are printed first.
    """
    found = sweep(account, stack, managed)
    kept, left = [one for one in found if one.note], [one for one in found if not one.note]
    for leftover in kept:
        echo(f"kept: {leftover.arn} ({leftover.note})")
    for leftover in left:
        echo(f"left: {leftover.arn}")
    if left:
        raise OperationError(
            f"{len(left)} resources of {stack} are left in account {account.id}: delete the ones listed above"
        )
    nothing = "nothing else" if kept else "nothing"
    echo(f"{nothing} of {stack} is left in account {account.id}, {account.region}: no resource has its tags or names")


def _keep_volumes(account: Account, volumes: list[str]) -> None:
    if volumes:
        with aws_errors():
            account.client("ec2").create_tags(Resources=volumes, Tags=[{"Key": KEEP_TAG, "Value": "true"}])


def _lift_protection(account: Account, names: Names, echo: Echo) -> None:
    """Disable AWS' own deletion protection, in addition to Pulumi's."""
    cluster, database = names.of("cluster", Limit.CLUSTER), names.of("database", Limit.DATABASE)
    with aws_errors():
        if (describe(account, cluster) or {}).get("deletionProtection"):
            echo(f"disabling the deletion protection of the cluster {cluster}")
            account.client("eks").update_cluster_config(name=cluster, deletionProtection=False)
            account.client("eks").get_waiter("cluster_active").wait(name=cluster)
        rds = account.client("rds")
        for page in rds.get_paginator("describe_db_instances").paginate():
            for instance in page["DBInstances"]:
                if instance["DBInstanceIdentifier"] == database and instance["DeletionProtection"]:
                    echo(f"disabling the deletion protection of the database {database}")
                    rds.modify_db_instance(
                        DBInstanceIdentifier=database, DeletionProtection=False, ApplyImmediately=True
                    )
