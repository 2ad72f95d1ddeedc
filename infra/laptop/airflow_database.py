"""Migrate the metadata database and create the administrator; run as a program in Airflow's environment.

The password comes by the variable AIRFLOW_ADMIN_PASSWORD: the CLI would take it as an argument, which every user of
the machine can read.
"""

import os

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils.db import upgradedb

from infra.laptop.airflow import ADMIN


def main() -> None:
    """Do both; doing them again changes nothing."""
    upgradedb()
    password = os.environ["AIRFLOW_ADMIN_PASSWORD"]
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(username=ADMIN)
        if user:
            manager.reset_password(user.id, password)
        else:
            manager.add_user(ADMIN, "Laptop", "Admin", "admin@localhost", manager.find_role("Admin"), password=password)


if __name__ == "__main__":
    main()
