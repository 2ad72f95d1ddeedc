"""The records of a base's preview environments: ConfigMaps in the namespace of its database.

A record is written before anything else of its environment, and deleted last. So interrupted commands can be finished
from any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from infra.errors import OperationError
from infra.previews.settings import PreviewSettings, parse
from ops.kubernetes.cluster import Cluster, ConflictError
from ops.kubernetes.diagnosis import Object

LABELS = {"app.kubernetes.io/component": "preview"}
FILE = "Pulumi.yaml"
REMOVAL = "airflow/removal"


@dataclass(frozen=True)
class Record:
    """The record of an environment.

    Attributes:
        stack: The environment's stack name.
        text: The text of its stack file.
        removing: Whether its removal has begun.
        created_at: When the record was created; None for a record that is not written yet.
        version: The resource version; None for a record that is not written yet.
    """

    stack: str
    text: str
    removing: bool = False
    created_at: datetime | None = None
    version: str | None = None

    @property
    def settings(self) -> PreviewSettings:
        """The environment's settings.

        Raises:
            SettingsError: The record is invalid.
        """
        return parse(self.stack, self.text)


@dataclass(frozen=True)
class Records:
    """The records of a base.

    All methods raise OperationError if the request to the cluster fails, or a record has changed since it was read.

    Attributes:
        cluster: The base's cluster.
        namespace: The namespace of the records.
    """

    cluster: Cluster
    namespace: str

    def all(self) -> list[Record]:
        """Return the records, oldest first."""
        selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
        found = map(_record, self.cluster.objects("ConfigMap", self.namespace, selector))
        return sorted(found, key=lambda record: (record.created_at, record.stack))

    def find(self, stack: str) -> Record | None:
        """Return the record of an environment; None if there is none."""
        return next((record for record in self.all() if record.stack == stack), None)

    def save(self, record: Record) -> Record:
        """Create a record, or replace the version that was read."""
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": record.stack,
                "labels": LABELS,
                "annotations": {REMOVAL: "begun"} if record.removing else {},
                "resourceVersion": record.version,
            },
            "data": {FILE: record.text},
        }
        write = self.cluster.replace if record.version else self.cluster.create
        with _conflicts():
            return _record(write(self.namespace, manifest))

    def begin_removal(self, record: Record) -> Record:
        """Mark the record of an environment as being removed, and return the new record."""
        return self.save(replace(record, removing=True))

    def delete(self, record: Record) -> None:
        """Delete the version of a record that was read."""
        options = {"preconditions": {"resourceVersion": record.version}}
        with _conflicts():
            self.cluster.delete("ConfigMap", record.stack, self.namespace, options)


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except ConflictError as error:
        raise OperationError(
            "another command changed the same preview environment: check `make preview-envs`, then rerun this command"
        ) from error


def _record(found: Object) -> Record:
    metadata = found["metadata"]
    return Record(
        metadata["name"],
        (found.get("data") or {}).get(FILE, ""),
        REMOVAL in (metadata.get("annotations") or {}),
        datetime.fromisoformat(metadata["creationTimestamp"]),
        metadata["resourceVersion"],
    )
