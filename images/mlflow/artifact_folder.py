"""Restrict artifacts to one folder of the object store; MLflow itself accepts any location from a client.

A location is checked when it is written to the database, and again when the server reads or writes it, because the
database may have locations from before this check.
"""

import re
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from sqlalchemy import event

# Excludes names that a server or client of the object store may resolve, such as "..", or decode.
NAME = re.compile(r"(?!\.{1,2}$)[^/\\%?#\x00-\x1f\x7f]+")
# The source is another version or logged model, whose own location was checked.
MODEL = re.compile(r"models:/[^/\\%?#]+(/[^/\\%?#]+)?")
# The source of prompts, which have no artifacts; MLflow takes it for prompts only.
PROMPT = "dummy-source"


@dataclass(frozen=True)
class ArtifactFolder:
    """The folder.

    Attributes:
        address: `s3://<bucket>/<folder>`, or the bucket alone.
    """

    address: str

    def holds(self, location: str) -> bool:
        """Return whether a location is the folder or below it."""
        root, location = self.address.rstrip("/"), location.removesuffix("/")
        below = location.removeprefix(root)
        return location.startswith(root) and (not below or self._is_path(below))

    @staticmethod
    def _is_path(text: str) -> bool:
        first, *names = text.split("/")
        return first == "" and all(NAME.fullmatch(name) for name in names)

    def check(self, location: str) -> None:
        """Refuse a location outside the folder.

        Raises:
            MlflowException: The location is outside the folder.
        """
        if not self.holds(location):
            raise MlflowException(
                f"The location {location!r} is outside {self.address}: artifacts must be in that folder.",
                INVALID_PARAMETER_VALUE,
            )


def confine(folder: ArtifactFolder) -> None:
    """Let MLflow in this process store and use only locations in the folder."""

    def repository(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> S3ArtifactRepository:
        folder.check(uri)
        return S3ArtifactRepository(uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    repositories = artifact_repository_registry.get_registered_artifact_repositories()
    repositories.update(dict.fromkeys(repositories, repository))

    def check_location(_row: Any, location: str | None, *_: Any) -> None:
        if location:  # an experiment gets its own when it has an id
            folder.check(location)

    def check_version(_row: Any, location: str | None, *_: Any) -> None:
        if location != PROMPT:
            check_location(_row, location)

    def check_source(_row: Any, source: str, *_: Any) -> None:
        if not MODEL.fullmatch(source):
            check_version(_row, source)

    for column in (SqlExperiment.artifact_location, SqlRun.artifact_uri, SqlLoggedModel.artifact_location):
        event.listen(column, "set", check_location)
    event.listen(SqlModelVersion.storage_location, "set", check_version)
    event.listen(SqlModelVersion.source, "set", check_source)
