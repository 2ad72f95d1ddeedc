"""Airflow's keys and passwords: generated once, with one Secret for each purpose, in place of the chart's own.

The chart generates new keys at each rendering, which makes saved connections unreadable and breaks running tasks.
"""

import base64
from collections.abc import Mapping
from dataclasses import replace

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random as random
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import feature_store
from infra.airflow.pgbouncer import DATABASE, PORT, SERVICE, configuration, users_file
from infra.airflow_names import ADMIN_SECRET, DATABASE_USERS
from infra.airflow_platform import Component, DatabaseAccess, Platform
from infra.dag_declarations import declarations, model_servers
from infra.mlflow_server import passed_secret

DATABASE_SECRET = "airflow-database"  # noqa: S105 - names, here and below
ASYNC_CONNECTION = "async-connection"
FERNET_SECRET = "airflow-fernet"  # noqa: S105
API_SECRET = "airflow-api"  # noqa: S105
JWT_SECRET = "airflow-jwt"  # noqa: S105
# Keys of the Secrets of components that run authors' code. They are mounted as files of the same names.
CONNECTION, FERNET_KEY, AWS_CREDENTIALS = "connection", "fernet-key", "aws-credentials"
PGBOUNCER_SECRET = "airflow-connection-pool"  # noqa: S105
PGBOUNCER_STATS_SECRET = "airflow-connection-pool-statistics"  # noqa: S105

ADMIN = "admin"
KEY_BYTES = 32
PASSWORD_LENGTH = 24


class Secrets(pulumi.ComponentResource):
    """The Secrets in Airflow's namespace, and that of tasks with the connection to the feature store."""

    def __init__(
        self, name: str, platform: Platform, *, pooled: bool, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Create them; if `pooled`, components reach the database through PgBouncer."""
        super().__init__("airflow:airflow:Secrets", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._namespace = platform.namespace

        fernet_key = self._create_keys()
        self._create_administrator()
        database = platform.airflow_database
        if pooled:
            self._create_pool(database)
            host, port = pulumi.Output.from_input(SERVICE), pulumi.Output.from_input(PORT)
            database = replace(database, host=host, port=port, name=DATABASE, authorities="")
        self._create_secret(
            DATABASE_SECRET, {CONNECTION: database.url, ASYNC_CONNECTION: database.url.apply(with_async_driver)}
        )
        further = {Component.TRIGGERER: {FERNET_KEY: fernet_key, **aws_credentials(platform)}}
        for component in DATABASE_USERS:
            content = {CONNECTION: database.of(component).url, **further.get(Component(component), {})}
            self._create_secret(component_secret(component), content)
        features = platform.features_database.url.apply(feature_store.connection)
        self._create_secret(
            feature_store.SECRET, {feature_store.VARIABLE: features}, namespace=platform.tasks_namespace
        )

        for server in model_servers(declarations()):
            if server.takes_secrets:
                # Empty: the task that deploys the server owns the content.
                self._create_secret(passed_secret(server.name), {})

        self.register_outputs({})

    def _create_keys(self) -> pulumi.Output[str]:
        """Create the keys, and return the fernet key."""
        key = self._create_key("fernet").apply(fernet_key)
        self._create_secret(FERNET_SECRET, {FERNET_KEY: key})
        self._create_secret(API_SECRET, {"api-secret-key": self._create_key("api")})
        self._create_secret(JWT_SECRET, {"jwt-secret": self._create_key("jwt")})
        return key

    def _create_key(self, purpose: str) -> pulumi.Output[str]:
        return random.RandomBytes(f"{purpose}-key", length=KEY_BYTES, opts=self._child_opts).base64

    def _create_administrator(self) -> None:
        password = random.RandomPassword(
            "administrator-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        )
        self._create_secret(ADMIN_SECRET, {"username": ADMIN, "password": password.result})

    def _create_pool(self, database: DatabaseAccess) -> None:
        files = {
            "pgbouncer.ini": pulumi.Output.all(database.host, database.port).apply(
                lambda at: configuration(at[0], at[1], database.name, database.user, database.users, database.sslmode)
            ),
            "users.txt": pulumi.Output.all(**{database.user: database.password, **database.users}).apply(users_file),
        }
        self._create_secret(PGBOUNCER_SECRET, files)
        statistics = pulumi.Output.format(
            "postgresql://{0}:{1}@127.0.0.1:{2}/pgbouncer?sslmode=disable", database.user, database.password, PORT
        )
        self._create_secret(PGBOUNCER_STATS_SECRET, {"connection": statistics})

    def _create_secret(
        self,
        name: str,
        content: Mapping[str, pulumi.Input[str]],
        *,
        namespace: pulumi.Output[str] | None = None,
    ) -> None:
        kubernetes.core.v1.Secret(
            name,
            metadata=ObjectMetaArgs(name=name, namespace=namespace or self._namespace),
            string_data={key: pulumi.Output.secret(value) for key, value in content.items()},
            opts=self._child_opts,
        )


def component_secret(component: str) -> str:
    """Return the name of the Secret of a component that runs authors' code."""
    return f"airflow-{component}"


def aws_credentials(platform: Platform) -> dict[str, pulumi.Output[str]]:
    """Return the file with the object store's keys; none if pods use the identity of their service account."""
    if platform.credentials_secret is None:
        return {}
    keys = pulumi.Output.all(platform.object_store_keys)
    return {AWS_CREDENTIALS: keys.apply(lambda known: credentials_file(known[0]))}


def credentials_file(keys: Mapping[str, str]) -> str:
    """Return a credentials file of AWS' clients: https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html."""
    return "\n".join(["[default]", *(f"{name.lower()} = {value}" for name, value in keys.items()), ""])


def with_async_driver(url: str) -> str:
    """Return a database's connection string for Airflow's asynchronous engine.

    Airflow derives one for asyncpg, which does not accept `sslmode`; psycopg does.
    """
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def fernet_key(standard: str) -> str:
    """Encode random bytes as a Fernet key: https://cryptography.io/en/latest/fernet/."""
    return base64.urlsafe_b64encode(base64.b64decode(standard)).decode()
