"""Print the latest revision of each of Airflow's migrations, as `<table> <revision>` lines.

The image's build runs this, because it imports all of Airflow.
"""

from airflow.providers.fab.auth_manager.models.db import FABDBManager
from airflow.utils.db import _get_alembic_config
from alembic.script import ScriptDirectory


def main() -> None:
    """Print the revision of Airflow, then that of its user management."""
    own = _get_alembic_config()  # type: ignore[no-untyped-call]
    print("alembic_version", ScriptDirectory.from_config(own).get_current_head())  # noqa: T201
    fab = FABDBManager(None).get_alembic_config()  # type: ignore[no-untyped-call]
    print(FABDBManager.version_table_name, ScriptDirectory.from_config(fab).get_current_head())  # noqa: T201


if __name__ == "__main__":
    main()
