"""Migrate the metadata database and create the administrator; run as a program in Airflow's environment.

Name and password come by the variables AIRFLOW_ADMIN_USERNAME and AIRFLOW_ADMIN_PASSWORD: Airflow's own command line
takes the password as an argument, which everybody can read who may list processes.
"""

import os

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import upgradedb


def main() -> None:
    """Do both; doing them again changes nothing but the password."""
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
