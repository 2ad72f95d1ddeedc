"""PgBouncer's configuration files: https://www.pgbouncer.org/config.html.

The chart can write them as well, but only with the password in its values.
"""

from collections.abc import Collection, Mapping

from infra.airflow_platform import AUTHORITIES
from infra.database_connections import PGBOUNCER_OWNER_CONNECTIONS, PGBOUNCER_USER_CONNECTIONS

SERVICE = "airflow-pgbouncer"
PORT = 6543
DATABASE = "airflow"

# From components to PgBouncer.
CLIENT_CONNECTIONS = 400


def configuration(host: str, port: int, database: str, owner: str, users: Collection[str], sslmode: str) -> str:
    """Return pgbouncer.ini for Airflow's database."""
    limits = "\n".join(f"{user} = max_user_connections={PGBOUNCER_USER_CONNECTIONS}" for user in users)
    return f"""[databases]
{DATABASE} = host={host} port={port} dbname={database} pool_size={PGBOUNCER_OWNER_CONNECTIONS}

[pgbouncer]
pool_mode = transaction
listen_addr = *
listen_port = {PORT}
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/users.txt
stats_users = {owner}
ignore_startup_parameters = extra_float_digits
max_client_conn = {CLIENT_CONNECTIONS}
server_tls_sslmode = {sslmode}
server_tls_ca_file = {AUTHORITIES}

[users]
{limits}
"""


def users_file(passwords: Mapping[str, str]) -> str:
    """Return users.txt for the passwords of users by name."""
    return "".join(f'"{user}" "{password}"\n' for user, password in passwords.items())
