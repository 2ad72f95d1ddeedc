"""Data contracts of Soda: what the consumers of a table in the feature store can rely on.

Soda runs in a separate environment: see `ml_common.tools`. https://docs.soda.io/reference/contract-language-reference
"""

from collections.abc import Mapping
from pathlib import Path

import psycopg

from ml_common import tools
from ml_common.errors import PermanentError

PROGRAM = Path(__file__).with_name("soda_program.py")
# The parameters of a connection that Soda knows by the same names.
PARAMETERS = ("host", "port", "user", "sslmode", "sslrootcert")


def verify(connection: psycopg.Connection, contract: Path, variables: Mapping[str, str]) -> int:
    """Verify a contract; return the number of its checks.

    Args:
        connection: A connection to the database. Soda opens its own with the same parameters.
        contract: A file in Soda's contract language. Its variable `database` is the name of the database.
        variables: The values of its other variables.

    Raises:
        PermanentError: A check failed or could not be evaluated.
    """
    found = connection.info.get_parameters() | {"port": str(connection.info.port)}
    login = {name: found[name] for name in PARAMETERS if name in found}
    checks = tools.run(
        "soda",
        PROGRAM,
        {
            "connection": {**login, "database": connection.info.dbname, "password": connection.info.password},
            "contract": str(contract),
            "variables": {**variables, "database": connection.info.dbname},
        },
    )
    failed = [f"{check['name']} is {check['outcome']} ({check['value']})" for check in checks if not check["ok"]]
    if failed or not checks:
        raise PermanentError(f"{contract} is violated: {', '.join(failed) or 'it has no checks'}.")
    return len(checks)
