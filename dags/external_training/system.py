"""What a DAG needs of the system that trains: the arguments of its operator, and what a finished job wrote and used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from external_training.outputs import Job
from flight_model.outputs import Computing
from ml_common.errors import PermanentError

External = Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """A job that succeeded.

    Attributes:
        model: The fitted model as a file of skops.
        facts: What fit.py wrote about it.
        computing: Where it was fitted.
    """

    model: bytes
    facts: Mapping[str, Any]
    computing: Computing


class System(Protocol):
    """A system outside the stack."""

    def resources(self, external: External) -> str:
        """Return what computes, as the card names it."""

    def arguments(self, job: Job, external: External, extra: External, /) -> dict[str, Any]:
        """Return the arguments of the operator that submits the job and waits for it.

        Args:
            job: The job.
            external: What the DAG declares as `external`.
            extra: The extra fields of its connection.

        Raises:
            PermanentError: The connection lacks a field.
        """

    def finished(self, external: External, result: Any, /) -> Finished:
        """Return what a job wrote and used, given the result of its operator."""


def field(extra: External, name: str, connection: str, what: str) -> str:
    """Return an extra field of a connection.

    Raises:
        PermanentError: The field is missing.
    """
    if name not in extra:
        raise PermanentError(
            f'The Airflow connection {connection} does not say which {what} to use: add "{name}" to its extra fields.'
        )
    return str(extra[name])
