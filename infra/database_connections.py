"""How many connections an RDS server allows, and how many a stack and its preview environments open at most.

Does not import Pulumi, because importing its providers takes longer than most commands.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra import feature_store
from infra.airflow_names import DATABASE_USERS

# The default of `max_connections`: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html
BYTES_PER_CONNECTION = 9_531_392
MAX_CONNECTIONS = 5000
# AWS does not document how much of an instance's memory DBInstanceClassMemory leaves to its own processes. Observed are
# about 85 connections on db.t4g.micro, 181 on db.t4g.small and 832 on db.m7g.large:
# https://github.com/kirill-markin/flashcards-open-source-app/pull/1657
# https://github.com/mitodl/ol-infrastructure/pull/5427
MICRO_RESERVED_MIB = 250
RESERVED_MIB = 400
RESERVED_PERCENT = 8
# superuser_reserved_connections, and those that RDS reserves for members of rds_superuser.
RESERVED_CONNECTIONS = 3 + 2

SMALL_SIZES = {"micro": 1, "small": 2, "medium": 4}
SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge")


@dataclass(frozen=True)
class Pool:
    """The connection pool of a process: https://docs.sqlalchemy.org/en/20/core/pooling.html."""

    size: int
    overflow: int

    @property
    def most(self) -> int:
        """The connections that it opens at most."""
        return self.size + self.overflow


# The pools of Airflow's processes; only the api-server answers requests in parallel. It has another pool for requests
# that it answers asynchronously. The scheduler's probe is answered by a process with a connection.
API_SERVER = Pool(5, 5)
COMPONENT = Pool(5, 0)
API_SERVER_POOLS = 2
PROBE = 1
# MLflow has a pool for runs and one for models, and ignores an overflow of 0.
MLFLOW = Pool(4, 1)
MLFLOW_POOLS = 2
# The migration of Airflow's database, and a Job that creates a database; or, at night, the clean-up.
JOBS = 2
CLEANUP = Pool(1, 1)

# The connection limit of the users of components: authors' code cannot use up all connections of the server.
USER_CONNECTIONS = 10

# From a replica of PgBouncer to the database: of the owner, and of each component that has its own user.
PGBOUNCER_OWNER_CONNECTIONS = 14
PGBOUNCER_USER_CONNECTIONS = 3

# The connection limits of the users of a preview environment's databases: the base takes precedence.
PREVIEW_CONNECTIONS = 25
PREVIEW_FEATURES_CONNECTIONS = 6
PREVIEW_SERVER_CONNECTIONS = 2


def available_connections(instance_class: str) -> int:
    """Return how many connections an RDS instance class allows to users that are not superusers."""
    memory = memory_gib(instance_class) * 1024
    micro = instance_class.endswith(".micro")
    reserved = MICRO_RESERVED_MIB if micro else max(RESERVED_MIB, memory * RESERVED_PERCENT / 100)
    return min(int((memory - reserved) * 2**20 / BYTES_PER_CONNECTION), MAX_CONNECTIONS) - RESERVED_CONNECTIONS


def class_for(needed: int, instance_class: str) -> str | None:
    """Return the smallest class of the same family that allows as many connections; None if there is none."""
    family = instance_class.rpartition(".")[0]
    sizes = (*(SMALL_SIZES if family.startswith("db.t") else ()), *SIZES)
    classes = (f"{family}.{size}" for size in sizes)
    return next((one for one in classes if available_connections(one) >= needed), None)


def of_stack(values: Mapping[str, Any]) -> dict[str, int]:
    """Return how many connections each part of a stack with these Helm values opens at most."""
    return {
        **dict(_of_airflow(values)),
        "MLflow": MLFLOW_POOLS * MLFLOW.most,
        "feature store": feature_store.CONNECTIONS + feature_store.SERVER_CONNECTIONS,
        "Jobs": JOBS,
    }


def of_preview() -> int:
    """Return how many connections a preview environment opens at most; PostgreSQL limits most of its users."""
    users = len(DATABASE_USERS) * USER_CONNECTIONS
    features = PREVIEW_FEATURES_CONNECTIONS + PREVIEW_SERVER_CONNECTIONS
    return PREVIEW_CONNECTIONS + users + MLFLOW_POOLS * MLFLOW.most + features


def why_no_room(
    stack: str, instance_class: str, values: Mapping[str, Any], previews: Sequence[str], added: str
) -> str | None:
    """Return why a preview environment does not fit on the server in addition to others; None if it does."""
    own, each, available = sum(of_stack(values).values()), of_preview(), available_connections(instance_class)
    needed = own + each * (len(previews) + 1)
    if needed <= available:
        return None
    others = f" ({', '.join(previews)})" if previews else ""
    remove = f"remove one that `make preview-envs STACK={stack}` lists, or " if previews else ""
    larger = class_for(needed, instance_class) or "a class of a larger family"
    return (
        f"{stack}'s database, {instance_class}, allows {available} connections, but {stack} opens up to {own} and "
        f"each preview environment up to {each}{others}, which leaves no room for {added}: {remove}set "
        f"airflow:database: instance_class to {larger} in Pulumi.{stack}.yaml and run `make deploy STACK={stack}`"
    )


def _of_airflow(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    if _section(values, "pgbouncer").get("enabled"):
        each = PGBOUNCER_OWNER_CONNECTIONS + len(DATABASE_USERS) * PGBOUNCER_USER_CONNECTIONS
        yield "PgBouncer", _replicas(values, "pgbouncer") * each
        return
    yield "scheduler", _replicas(values, "scheduler") * (COMPONENT.most + PROBE)
    yield "api-server", _replicas(values, "apiServer") * API_SERVER_POOLS * API_SERVER.most
    for user in DATABASE_USERS:
        yield user, USER_CONNECTIONS


def _replicas(values: Mapping[str, Any], section: str) -> int:
    return int(_section(values, section).get("replicas", 1))


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return values.get(name) or {}


def memory_gib(instance_class: str) -> int:
    """Return the memory: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Summary.html."""
    family, size = instance_class.removeprefix("db.").split(".")
    if size in SMALL_SIZES:
        return SMALL_SIZES[size]
    factor = 1 if size == "large" else 2 * int(re.sub(r"\D", "", size) or 1)
    return (16 if family.startswith("r") else 8) * factor
