"""An environment's databases: made on its base's server, each with an owner who sees no other."""

import pulumi
import pulumi_random as random

from infra.airflow_platform import DatabaseAccess
from infra.database_setup import DatabaseSetup
from infra.preview_names import AIRFLOW, MLFLOW, database_names

PASSWORD_LENGTH = 32
# Of each owner: a small server has about a hundred, and its base needs them first.
CONNECTIONS = 25


class Databases(pulumi.ComponentResource):
    """Access to them.

    Attributes:
        airflow: The database of Airflow's metadata.
        mlflow: The database of MLflow's runs and registry.
    """

    airflow: DatabaseAccess
    mlflow: DatabaseAccess

    def __init__(
        self,
        name: str,
        stack: str,
        admin: DatabaseAccess,
        namespace: str,
        client: tuple[str, int],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them by pods in a namespace of the base; `client`: an image with psql, and a user who may run it."""
        super().__init__("airflow:preview:Databases", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._admin = admin
        self._setup = DatabaseSetup(admin, pulumi.Output.from_input(namespace), *client, self._child_opts, CONNECTIONS)

        names = database_names(stack)
        self.airflow = self._create(AIRFLOW, names[AIRFLOW])
        self.mlflow = self._create(MLFLOW, names[MLFLOW])

        self.register_outputs({"host": self.airflow.host})

    def _create(self, purpose: str, name: str) -> DatabaseAccess:
        # Without special characters, because it becomes part of an address.
        password = random.RandomPassword(
            f"{purpose}-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        ).result
        admin = self._admin
        return self._setup.create(DatabaseAccess(admin.host, admin.port, name, name, password, tls=admin.tls))
