"""Migrate the metadata database, give its users their rights, store the DAG bundles, and create the administrator.

The login comes from AIRFLOW_ADMIN_USERNAME and AIRFLOW_ADMIN_PASSWORD: Airflow's command line takes the password as an
argument, which anyone who can list processes can read.
"""

import os

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import upgradedb
from airflow.utils.session import create_session
from sqlalchemy import text

import database_users


def main() -> None:
    """Migrate, then create the administrator or reset its password."""
    upgradedb()
    grant_rights()
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    username, password = os.environ["AIRFLOW_ADMIN_USERNAME"], os.environ["AIRFLOW_ADMIN_PASSWORD"]
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(username=username)
        if user:
            manager.reset_password(user.id, password)
        else:
            manager.add_user(
                username, "Airflow", "Admin", "admin@localhost", manager.find_role("Admin"), password=password
            )


def grant_rights() -> None:
    """Give the users of components their rights in one transaction, so that running components never lack them."""
    with create_session() as session:
        owner = session.scalar(text("SELECT current_user"))
        users = session.scalars(text("SELECT rolname FROM pg_roles")).all()
        for statement in database_users.statements(owner, users):
            session.execute(text(statement))


if __name__ == "__main__":
    main()
