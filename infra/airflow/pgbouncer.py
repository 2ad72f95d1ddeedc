"""PgBouncer's configuration files: https://www.pgbouncer.org/config.html.

The chart can write them as well, but only with the password in its values.
"""

SERVICE = "airflow-pgbouncer"
PORT = 6543
DATABASE = "airflow"

# Connections from PgBouncer to the database, and from components to PgBouncer.
SERVER_CONNECTIONS = 20
CLIENT_CONNECTIONS = 400


def configuration(host: str, port: int, database: str, user: str) -> str:
    """Return pgbouncer.ini for Airflow's database."""
    return f"""[databases]
{DATABASE} = host={host} port={port} dbname={database} pool_size={SERVER_CONNECTIONS}

[pgbouncer]
pool_mode = transaction
listen_addr = *
listen_port = {PORT}
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/users.txt
stats_users = {user}
ignore_startup_parameters = extra_float_digits
max_client_conn = {CLIENT_CONNECTIONS}
server_tls_sslmode = require
"""


def users(user: str, password: str) -> str:
    """Return users.txt."""
    return f'"{user}" "{password}"\n'
