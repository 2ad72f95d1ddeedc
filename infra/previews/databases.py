"""An environment's databases on the server of its base, with separate owners."""

from collections.abc import Sequence

import pulumi
import pulumi_random as random

from infra.airflow_names import DATABASE_USERS
from infra.airflow_platform import DatabaseAccess
from infra.database_connections import (
    PREVIEW_CONNECTIONS,
    PREVIEW_FEATURES_CONNECTIONS,
    PREVIEW_SERVER_CONNECTIONS,
)
from infra.database_setup import DatabaseOptions, DatabaseSetup
from infra.feature_store import EXTENSION, SERVERS
from infra.preview_names import AIRFLOW, FEATURES, MLFLOW, database_names

PASSWORD_LENGTH = 32
DEFAULT = DatabaseOptions(PREVIEW_CONNECTIONS)


class Databases(pulumi.ComponentResource):
    """The databases of an environment.

    Attributes:
        airflow: The database of Airflow's metadata.
        mlflow: The database of MLflow's runs and registry.
        features: The database of the feature store.
    """

    airflow: DatabaseAccess
    mlflow: DatabaseAccess
    features: DatabaseAccess

    def __init__(
        self,
        name: str,
        stack: str,
        admin: DatabaseAccess,
        namespace: str,
        client_image: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the databases from pods in a namespace of the base; `client_image` has psql."""
        super().__init__("airflow:preview:Databases", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._admin = admin
        self._setup = DatabaseSetup(admin, pulumi.Output.from_input(namespace), client_image, self._child_opts)

        names = database_names(stack)
        self.airflow = self._create(AIRFLOW, names[AIRFLOW], DATABASE_USERS)
        self.mlflow = self._create(MLFLOW, names[MLFLOW])
        of_features = DatabaseOptions(PREVIEW_FEATURES_CONNECTIONS, PREVIEW_SERVER_CONNECTIONS, EXTENSION)
        self.features = self._create(FEATURES, names[FEATURES], [SERVERS], of_features)

        self.register_outputs({"host": self.airflow.host})

    def _create_password(self, purpose: str) -> pulumi.Output[str]:
        # Without special characters, because the password becomes part of a connection string.
        return random.RandomPassword(
            f"{purpose}-password", length=PASSWORD_LENGTH, special=False, opts=self._child_opts
        ).result

    def _create(
        self,
        purpose: str,
        name: str,
        components: Sequence[str] = (),
        options: DatabaseOptions = DEFAULT,
    ) -> DatabaseAccess:
        admin, password = self._admin, self._create_password(purpose)
        passwords = {component: self._create_password(f"{purpose}-{component}") for component in components}
        access = DatabaseAccess(admin.host, admin.port, name, name, password, admin.authorities, passwords)
        return self._setup.create(access, options)
