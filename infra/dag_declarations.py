"""What each DAG needs besides its code: `dags/<dag_id>/dag.yaml`."""

import json
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from infra.airflow_names import POOL_NAME
from infra.documents import REPOSITORY, DocumentError, read_yaml
from infra.errors import OperationError

FILE = "dag.yaml"
SCHEMA_FILE = Path(__file__).with_name("dag_schema.json")

# The ID of a DAG is the name of its folder, of its Python package, and of its folders in the buckets. With the prefix
# of its service account it fits into a label: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
DAG_ID = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
DAG_ID_LENGTH = 55
# Its account and its role would have the names of those of the dag-processor.
RESERVED = ("processor",)

Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*/$")]
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html
Action = Annotated[str, Field(pattern=r"^[a-z0-9-]+:[A-Za-z]+$")]
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
Arn = Annotated[str, Field(pattern=r"^arn:aws:[a-z0-9-]+:[a-z0-9-]*:(\d{12})?:[^*?\s]+$")]
# Names as in https://datatracker.ietf.org/doc/html/rfc1123#section-2, or CIDR notation.
HOST = r"^((\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+|[0-9a-f.:]+/[0-9]+)$"


class Declaration(BaseModel):
    """The base class of everything in a declaration."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BucketFolder(Declaration):
    """A folder in one of the stack's buckets."""

    bucket: Literal["data", "artifacts"]
    """The purpose of the bucket."""
    prefix: Prefix
    """The prefix of the objects' keys, such as images/."""


class Permission(Declaration):
    """AWS actions on resources outside the stack."""

    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    """The actions, such as sqs:SendMessage; wildcards are not allowed."""
    resources: Annotated[tuple[Arn, ...], Field(min_length=1)]
    """The ARNs of the resources; wildcards are not allowed."""


class Destination(Declaration):
    """A server outside the stack."""

    host: Annotated[str, Field(pattern=HOST, max_length=253)]
    """A DNS name such as warehouse.example.com, *.example.com for all names below it, <service>.<namespace>.svc for the
    pods of a namespace, or a range of addresses such as 198.51.100.0/24."""
    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65535)], ...], Field(min_length=1)]
    """TCP ports."""

    @field_validator("host")
    @classmethod
    def _is_valid(cls, host: str) -> str:
        if "/" in host:
            ip_network(host)
        return host


ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=250)]


class Notification(Declaration):
    """An Airflow connection through which people are notified: an smtp, slackwebhook or aws connection."""

    connection: ConnectionId
    """The ID of the connection."""
    server: Destination | None = None
    """The server of the connection if it does not use HTTPS, such as a mail server."""
    topic: Annotated[str, Field(pattern=r"^arn:aws:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+$")] | None = None
    """The SNS topic of an aws connection without keys; it has no effect outside AWS."""


def _notification(value: Any) -> Any:
    return {"connection": value} if isinstance(value, str) else value


ServerName = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=50)]


class ModelServer(Declaration):
    """The server with which a DAG serves a model."""

    name: ServerName
    """The name of the Deployment and the Service."""
    size: Literal["small", "medium", "large"] = "small"
    """CPU and memory of each replica: 0.25 vCPU and 1.5 GiB, 0.5 vCPU and 3 GiB, or 1 vCPU and 6 GiB."""
    replicas: Annotated[int, Field(ge=1, le=10)] = 1
    """The number of pods."""
    reads_features: bool = False
    """Whether it reads the feature store's database, as a user who sees only what its owner grants."""
    takes_secrets: bool = False
    """Whether the DAG's tasks pass it secrets, such as the key of an API."""
    egress: tuple[Destination, ...] = ()
    """Servers outside the stack that it reaches, besides HTTPS."""


def _model_server(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Price = Annotated[float, Field(gt=0, le=1000)]
Minutes = Annotated[int, Field(ge=5, le=7200)]


class SageMaker(Declaration):
    """A training job of Amazon SageMaker."""

    backend: Literal["sagemaker"]
    connection: ConnectionId
    """The ID of the Airflow connection; without it, there is no DAG."""
    instance_type: Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
    """The type of the instance."""
    usd_per_hour: Price
    """The price of the instance: https://aws.amazon.com/sagemaker/ai/pricing/."""
    max_minutes: Minutes
    """The job is stopped after this time."""


class DagDeclaration(Declaration):
    """What a DAG needs besides its own folders `<dag_id>/` in the data and artifacts buckets."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] = "ml"
    """The image of the tasks: the name of a folder in images/."""
    reads: tuple[BucketFolder, ...] = ()
    """Folders whose objects the DAG reads."""
    writes: tuple[BucketFolder, ...] = ()
    """Folders whose objects the DAG reads, writes and deletes."""
    serves: Annotated[ModelServer, BeforeValidator(_model_server, ServerName | ModelServer)] | None = None
    """The model server of the DAG, or only its name."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """The number of GPUs that one task may use."""
    node_pool: Annotated[str, Field(pattern=POOL_NAME)] | None = None
    """The node pool of tasks that name none: of those with GPUs if the DAG declares `gpus`, otherwise of all of them.
    It has no effect on a laptop and on existing clusters."""
    pods_connect: bool = False
    """Whether the pods of its tasks connect to each other, such as workers that train together."""
    egress: tuple[Destination, ...] = ()
    """Servers that tasks connect to, besides those of the stack and HTTPS anywhere."""
    notify: tuple[Annotated[Notification, BeforeValidator(_notification, ConnectionId | Notification)], ...] = ()
    """Whom a run that fails or misses its deadline notifies: Airflow connections."""
    permissions: tuple[Permission, ...] = ()
    """Further AWS permissions; they have no effect outside AWS."""
    external: SageMaker | None = None
    """The system outside the stack in which the DAG trains: see docs/external-training.md."""

    @property
    def notification_servers(self) -> tuple[Destination, ...]:
        """The servers of `notify`, besides HTTPS."""
        return tuple(one.server for one in self.notify if one.server)

    @property
    def notification_topics(self) -> tuple[str, ...]:
        """The SNS topics of `notify`."""
        return tuple(one.topic for one in self.notify if one.topic)


def declarations(root: Path = REPOSITORY) -> Mapping[str, DagDeclaration]:
    """Return the declaration of each DAG by its ID; a DAG without the file needs only its own folders.

    Raises:
        OperationError: A file is invalid, or names an image that does not exist.
    """
    found = sorted(path.parent for path in (root / "dags").glob("*/*_dag.py") if path.stem == f"{path.parent.name}_dag")
    return {folder.name: _declaration(folder, root) for folder in found}


def model_servers(dags: Mapping[str, DagDeclaration]) -> list[ModelServer]:
    """Return the model servers of DAGs, in the order of their names."""
    return sorted((dag.serves for dag in dags.values() if dag.serves), key=lambda server: server.name)


def account_name(dag_id: str) -> str:
    """Return the name of a DAG's service account."""
    return f"dag-{dag_id.replace('_', '-')}"


def check_dag_id(dag_id: str) -> None:
    """Check that an ID can name a DAG's folder, package and service account.

    Raises:
        OperationError: The ID is invalid.
    """
    if not DAG_ID.fullmatch(dag_id) or len(dag_id) > DAG_ID_LENGTH or dag_id in RESERVED:
        raise OperationError(
            f"{dag_id!r} is not a valid DAG ID: use at most {DAG_ID_LENGTH} lower-case letters, digits and single "
            f"underscores, starting with a letter, and not {' or '.join(RESERVED)}"
        )


def _declaration(folder: Path, root: Path) -> DagDeclaration:
    check_dag_id(folder.name)
    file = folder / FILE
    if not file.exists():
        return DagDeclaration()
    try:
        declaration = read_yaml(file, DagDeclaration, empty=DagDeclaration())
    except DocumentError as error:
        raise OperationError(str(error)) from None
    if not (root / "images" / declaration.image / "Dockerfile").exists():
        raise OperationError(f"{file.relative_to(root)}: image: there is no folder images/{declaration.image}")
    return declaration


def schema_text() -> str:
    """Return the JSON schema of the file, with which editors validate and complete it."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DagDeclaration.model_json_schema(),
        "title": "What a DAG needs besides its code",
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text())
