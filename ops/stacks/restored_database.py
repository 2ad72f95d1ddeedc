"""Let Pulumi manage a database that was restored from a backup under the name of the one that it replaces."""

from __future__ import annotations

from infra.aws.names import Limit, Names
from ops.aws.account import Account, aws_errors
from ops.console import Echo
from ops.pulumi.deployment import Deployment
from ops.pulumi.pending import UNREAD

DATABASE = "aws:rds/instance:Instance"


def adopt_restored(account: Account, names: Names, deployment: Deployment, echo: Echo) -> None:
    """Replace the ID of the database in Pulumi's state if another instance has its name now.

    The ID of an instance is not its name: a refresh would drop the instance that was replaced from the state, and the
    deployment would try to create another one with a name that is taken.

    Raises:
        OperationError: The state cannot be read or changed, or AWS refused a request.
    """
    name = names.of("database", Limit.DATABASE)
    state = deployment.exported()
    resources = state["deployment"].get("resources", ())
    for database in (one for one in resources if one["type"] == DATABASE and not one.get("delete")):
        existing = _id(account, name)
        if existing and existing != database["id"]:
            echo(f"{name} was restored: replacing {database['id']} with {existing} in Pulumi's state")
            database |= {"id": existing, "initErrors": [UNREAD]}
            deployment.replace_state(state)


def _id(account: Account, name: str) -> str | None:
    with aws_errors():
        pages = account.client("rds").get_paginator("describe_db_instances").paginate()
        instances = [instance for page in pages for instance in page["DBInstances"]]
    return next((one["DbiResourceId"] for one in instances if one["DBInstanceIdentifier"] == name), None)
