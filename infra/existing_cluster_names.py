"""Names on an existing cluster that commands need, too."""

# What follows the name of Airflow's namespace in that of the servers beside it.
PLATFORM_SUFFIX = "-platform"

GIT_SERVER = "git"
GIT_REPOSITORY = "/git/dags.git"


def platform_namespace(namespace: str) -> str:
    """Return the namespace of the servers beside Airflow's."""
    return f"{namespace}{PLATFORM_SUFFIX}"
