"""Names on an existing cluster that commands need as well."""

# The servers' namespace is Airflow's namespace with this suffix.
PLATFORM_SUFFIX = "-platform"

GIT_SERVER = "git"
GIT_REPOSITORY = "/git/dags.git"


def platform_namespace(namespace: str) -> str:
    """Return the namespace of the servers that Airflow uses."""
    return f"{namespace}{PLATFORM_SUFFIX}"
