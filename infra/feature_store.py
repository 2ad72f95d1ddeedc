"""The feature store's database and the Airflow connection with which tasks reach it, on a laptop and on every platform.

Imports nothing, because importing Pulumi's providers takes longer than most commands.
"""

# The database, and its owner.
DATABASE = "features"
# pgvector, with which docs_index stores embeddings.
EXTENSION = "vector"
# The Secret in the namespace of tasks, and its key: the variable of the connection in dags/ml_common/feature_store.py.
SECRET = "features-database"  # noqa: S105 - its name
VARIABLE = "AIRFLOW_CONN_FEATURES"

# The user of model servers, who may read what the owner lets it read: the component of Airflow's platform and the
# variable of dags/docs_assistant/serve.py.
SERVERS = "serving"
SERVERS_VARIABLE = "FEATURES_DATABASE"

# The connection limit of the owner: all tasks log in as this user, and must not use up all connections of the server.
CONNECTIONS = 18
# That of the user of model servers.
SERVER_CONNECTIONS = 4
# A task fails after this time if the server does not answer, and is retried.
TIMEOUT_SECONDS = 5


def server_user(owner: str) -> str:
    """Return the user of model servers in the database of an owner."""
    return f"{owner}-{SERVERS}"


def connection(url: str) -> str:
    """Return the connection for the database's address."""
    return f"{url}{'&' if '?' in url else '?'}connect_timeout={TIMEOUT_SECONDS}"
