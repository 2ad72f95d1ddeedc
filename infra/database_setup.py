"""Create databases on a PostgreSQL server from pods: the machine that runs Pulumi need not reach the server."""

from dataclasses import dataclass, replace
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.batch.v1 import JobSpecArgsDict

from infra import feature_store, restricted_pods
from infra.airflow_names import (
    DATABASE_CA,
    DATABASE_CA_FILE,
    DATABASE_CA_FOLDER,
    DATABASE_SETUP_LABELS,
    database_setup_name,
)
from infra.airflow_platform import AUTHORITIES, DatabaseAccess
from infra.database_connections import USER_CONNECTIONS

SCRIPT = Path(__file__).with_name("create_database.sql")
# psql runs as any user; a user of the node has a lower id.
CLIENT_USER_ID = 10001


@dataclass(frozen=True)
class DatabaseOptions:
    """The limits of a database, and its extension.

    Attributes:
        owner_connections: The connection limit of the owner; no limit but the server's own if None.
        user_connections: The connection limit of each other user.
        extension: The extension that the database gets if the server has it.
    """

    owner_connections: int | None = None
    user_connections: int = USER_CONNECTIONS
    extension: str | None = None


NO_OPTIONS = DatabaseOptions()
FEATURES = DatabaseOptions(feature_store.CONNECTIONS, feature_store.SERVER_CONNECTIONS, feature_store.EXTENSION)


class DatabaseSetup:
    """Creates databases and their users, in a namespace that keeps the administrator's password from other users."""

    def __init__(
        self,
        admin: DatabaseAccess,
        namespace: pulumi.Output[str],
        client_image: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        """Create the ConfigMap with the script.

        Args:
            admin: The access of the server's administrator.
            namespace: The namespace of the Jobs.
            client_image: An image with psql.
            opts: The options of all resources.
        """
        self._admin = admin
        self._namespace = namespace
        self._client_image = client_image
        self._opts = opts
        script = kubernetes.core.v1.ConfigMap(
            "create-database-script",
            metadata={"namespace": namespace},
            data={SCRIPT.name: SCRIPT.read_text()},
            opts=opts,
        )
        self._script = script.metadata.name.apply(str)

    def create(self, database: DatabaseAccess, options: DatabaseOptions = NO_OPTIONS) -> DatabaseAccess:
        """Create a database, its owner and the components' users; the returned access resolves once all exist.

        Args:
            database: The access to the database.
            options: Its limits and its extension.
        """
        optional = {
            "DATABASE_CONNECTIONS": None if options.owner_connections is None else str(options.owner_connections),
            "DATABASE_EXTENSION": options.extension,
        }
        secret = kubernetes.core.v1.Secret(
            database_setup_name(database.name),
            metadata={"namespace": self._namespace},
            string_data={
                "PGHOST": database.host,
                "PGPORT": database.port.apply(str),
                "PGUSER": self._admin.user,
                "PGPASSWORD": self._admin.password,
                "PGDATABASE": self._admin.name,
                "PGSSLMODE": database.sslmode,
                "PGSSLROOTCERT": AUTHORITIES,
                DATABASE_CA_FILE: database.authorities,
                "DATABASE_NAME": database.name,
                "DATABASE_PASSWORD": database.password,
                "DATABASE_USERS": pulumi.Output.json_dumps(database.users),
                "USER_CONNECTIONS": str(options.user_connections),
                **{name: value for name, value in optional.items() if value is not None},
            },
            opts=self._opts,
        )
        # A changed Secret or ConfigMap is replaced under a new name, which replaces the Job, so it runs again.
        job = kubernetes.batch.v1.Job(
            database_setup_name(database.name),
            metadata={"namespace": self._namespace},
            spec=job_spec(secret.metadata.name.apply(str), self._script, self._client_image),
            opts=self._opts,
        )
        host = pulumi.Output.all(database.host, job.metadata.name).apply(lambda known: str(known[0]))
        return replace(database, host=host)


def job_spec(secret: pulumi.Input[str], script: pulumi.Input[str], image: str) -> JobSpecArgsDict:
    """Return the spec of the Job that runs the script, which is idempotent."""
    return {
        "backoff_limit": 6,
        "template": {
            "metadata": {"labels": DATABASE_SETUP_LABELS},
            "spec": {
                "restart_policy": "Never",
                "automount_service_account_token": False,
                "security_context": restricted_pods.pod(CLIENT_USER_ID),
                "containers": [
                    {
                        "name": "psql",
                        "image": image,
                        "command": ["psql", "--no-psqlrc", "--quiet", f"--file=/scripts/{SCRIPT.name}"],
                        "env_from": [{"secret_ref": {"name": secret}}],
                        "volume_mounts": [
                            {"name": "scripts", "mount_path": "/scripts", "read_only": True},
                            {"name": DATABASE_CA, "mount_path": DATABASE_CA_FOLDER, "read_only": True},
                        ],
                        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                        "security_context": restricted_pods.CONTAINER,
                    }
                ],
                "volumes": [
                    {"name": "scripts", "config_map": {"name": script}},
                    {
                        "name": DATABASE_CA,
                        "secret": {
                            "secret_name": secret,
                            "items": [{"key": DATABASE_CA_FILE, "path": DATABASE_CA_FILE}],
                        },
                    },
                ],
            },
        },
    }
