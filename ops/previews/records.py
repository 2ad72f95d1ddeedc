"""The records of the environments of a base: ConfigMaps beside its database.

A record is written before anything of its environment exists, and goes when nothing is left: what was interrupted is
found again, from any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import kubernetes
from kubernetes.client.exceptions import ApiException

from infra.errors import OperationError
from infra.previews.settings import PreviewSettings, parse
from ops.kubernetes.cluster import TIMEOUT_SECONDS, Cluster

LABELS = {"app.kubernetes.io/component": "preview"}
FILE = "Pulumi.yaml"
REMOVAL = "airflow/removal"


@dataclass(frozen=True)
class Record:
    """What is known of an environment.

    Attributes:
        stack: Its name.
        text: The text of its stack file.
        removing: Whether its removal has begun.
        created_at: When it was made; None for one that is not written yet.
        version: Kubernetes' version of the record; None for one that is not written yet.
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
            SettingsError: Somebody changed the record.
        """
        return parse(self.stack, self.text)


@dataclass(frozen=True)
class Records:
    """The records of a base.

    Every method raises OperationError when the cluster cannot be asked, or a record is no longer as it was read.

    Attributes:
        cluster: The base's cluster.
        namespace: The namespace of the records.
    """

    cluster: Cluster
    namespace: str

    def all(self) -> list[Record]:
        """Return the records, the oldest first."""
        selector = ",".join(f"{name}={value}" for name, value in LABELS.items())
        with self._errors():
            found = self._core.list_namespaced_config_map(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT_SECONDS
            )
        return sorted(map(_record, found.items), key=lambda record: (record.created_at, record.stack))

    def find(self, stack: str) -> Record | None:
        """Return the record of an environment; None where there is none."""
        return next((record for record in self.all() if record.stack == stack), None)

    def save(self, record: Record) -> Record:
        """Write a new record, or one over the version that was read."""
        body = {
            "metadata": {
                "name": record.stack,
                "labels": LABELS,
                "annotations": {REMOVAL: "begun"} if record.removing else {},
                "resourceVersion": record.version,
            },
            "data": {FILE: record.text},
        }
        with self._errors():
            if record.version is None:
                answer = self._core.create_namespaced_config_map(self.namespace, body, _request_timeout=TIMEOUT_SECONDS)
            else:
                answer = self._core.replace_namespaced_config_map(
                    record.stack, self.namespace, body, _request_timeout=TIMEOUT_SECONDS
                )
        return _record(answer)

    def begin_removal(self, record: Record) -> Record:
        """Write down that an environment is removed, and return the record of that."""
        return self.save(replace(record, removing=True))

    def delete(self, record: Record) -> None:
        """Delete a record of the version that was read."""
        body = kubernetes.client.V1DeleteOptions(preconditions={"resourceVersion": record.version})
        with self._errors():
            self._core.delete_namespaced_config_map(
                record.stack, self.namespace, body=body, _request_timeout=TIMEOUT_SECONDS
            )

    @property
    def _core(self) -> Any:
        return kubernetes.client.CoreV1Api(self.cluster.client)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self.cluster.errors():
            try:
                yield
            except ApiException as error:
                if error.status != 409:
                    raise
                raise OperationError(
                    "somebody else works on the same preview environment: see `make preview-envs`, then run the same "
                    "command again"
                ) from error


def _record(item: Any) -> Record:
    metadata = item.metadata
    return Record(
        metadata.name,
        (item.data or {}).get(FILE, ""),
        REMOVAL in (metadata.annotations or {}),
        metadata.creation_timestamp,
        metadata.resource_version,
    )
