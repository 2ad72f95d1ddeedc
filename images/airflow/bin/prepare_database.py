"""Migrate the metadata database and create the administrator.

The login comes from AIRFLOW_ADMIN_USERNAME and AIRFLOW_ADMIN_PASSWORD: Airflow's command line takes the password as an
argument, which anyone who can list processes can read.
"""

import os

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import upgradedb


def main() -> None:
    """Migrate, then create the administrator or reset its password."""
    upgradedb()
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


if __name__ == "__main__":
    main()
