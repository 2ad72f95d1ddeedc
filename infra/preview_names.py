"""What belongs to a preview environment, by its name: nothing of its base has a name like that."""

import re
from hashlib import sha256

PREFIX = "preview-"
# With the Jobs that make its databases, whose names may have 63 characters:
# https://kubernetes.io/docs/concepts/workloads/controllers/job/#writing-a-job-spec
SLUG_LENGTH = 15
HASH_LENGTH = 6
STACK = re.compile(rf"{PREFIX}[a-z0-9]+(-[a-z0-9]+)*-[0-9a-f]{{{HASH_LENGTH}}}")

# The databases of an environment are those of every Airflow.
AIRFLOW, MLFLOW = "airflow", "mlflow"


def is_preview(stack: str) -> bool:
    """Say whether a stack is a preview environment."""
    return stack.startswith(PREFIX)


def stack_name(base: str, branch: str) -> str:
    """Return the name of a branch's environment, which is that of its stack and of its namespace.

    The hash keeps branches apart that begin alike, and environments of one branch in two bases.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower())[:SLUG_LENGTH].strip("-")
    digest = sha256(f"{base} {branch}".encode()).hexdigest()[:HASH_LENGTH]
    return f"{PREFIX}{slug}-{digest}"


def database_names(stack: str) -> dict[str, str]:
    """Return the names of the environment's databases, which are those of their owners, by their purposes.

    Raises:
        ValueError: The stack is no preview environment: what would be dropped is another's.
    """
    return {purpose: f"{_checked(stack)}-{purpose}" for purpose in (AIRFLOW, MLFLOW)}


def bucket_prefix(stack: str) -> str:
    """Return what the keys of the environment's objects begin with.

    Raises:
        ValueError: The stack is no preview environment: what would be deleted is another's.
    """
    return f"previews/{_checked(stack)}/"


def _checked(stack: str) -> str:
    if not STACK.fullmatch(stack):
        raise ValueError(f"{stack} is not the name of a preview environment")
    return stack
