"""Names on an existing cluster that commands need as well."""

# The servers' namespace is Airflow's namespace with this suffix.
PLATFORM_SUFFIX = "-platform"

# The official image of PostgreSQL 17 with the extension pgvector.
POSTGRES_IMAGE = "docker.io/pgvector/pgvector:0.8.6-pg17-bookworm"
POSTGRES_USER_ID = 999
POSTGRES_VOLUME_GIB = 8

OBJECT_STORE = "s3"
OBJECT_STORE_PORT = 4566

GIT_SERVER = "git"
GIT_REPOSITORY = "/git/dags.git"


def platform_namespace(namespace: str) -> str:
    """Return the namespace of the servers that Airflow uses."""
    return f"{namespace}{PLATFORM_SUFFIX}"
