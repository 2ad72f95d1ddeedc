"""The names of a preview environment's resources; no resource of its base has such a name."""

import re
from hashlib import sha256

PREFIX = "preview-"
# The longest slug with which the names of the Jobs that create databases fit into 63 characters:
# https://kubernetes.io/docs/concepts/workloads/controllers/job/#writing-a-job-spec
SLUG_LENGTH = 15
HASH_LENGTH = 6
STACK = re.compile(rf"{PREFIX}[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{{{HASH_LENGTH}}}")

# The purposes of an environment's databases.
AIRFLOW, MLFLOW, FEATURES = "airflow", "mlflow", "features"


def is_preview(stack: str) -> bool:
    """Return whether a stack is a preview environment."""
    return stack.startswith(PREFIX)


def stack_name(base: str, branch: str) -> str:
    """Return the name of a branch's environment, its stack and its namespace.

    The hash distinguishes branches with the same beginning, and environments of one branch in two bases.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower())[:SLUG_LENGTH].strip("-")
    digest = sha256(f"{base} {branch}".encode()).hexdigest()[:HASH_LENGTH]
    return f"{PREFIX}{slug}-{digest}"


def database_names(stack: str) -> dict[str, str]:
    """Return the names of the environment's databases and of their owners, by purpose.

    Raises:
        ValueError: The stack is not a preview environment, so its databases must not be dropped.
    """
    return {purpose: f"{_checked(stack)}-{purpose}" for purpose in (AIRFLOW, MLFLOW, FEATURES)}


def bucket_prefix(stack: str) -> str:
    """Return the prefix of the keys of the environment's objects.

    Raises:
        ValueError: The stack is not a preview environment, so its objects must not be deleted.
    """
    return f"previews/{_checked(stack)}/"


def _checked(stack: str) -> str:
    if not STACK.fullmatch(stack):
        raise ValueError(f"{stack} is not the name of a preview environment")
    return stack
