"""The assumed usage for the monthly cost: usage.yaml."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from infra.documents import read_yaml

FILE = Path(__file__).with_name("usage.yaml")


class Stated(BaseModel):
    """Base class of the parts of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Amount(Stated):
    """A quantity per month, for an idle stack and at the stated load."""

    idle: float
    load: float
    text: str = ""

    def __add__(self, other: "Amount") -> "Amount":
        """Add both quantities."""
        return Amount(idle=self.idle + other.idle, load=self.load + other.load)

    def __mul__(self, factor: float) -> "Amount":
        """Multiply both quantities."""
        return Amount(idle=self.idle * factor, load=self.load * factor)


class Size(Stated):
    """The resource requests of pods."""

    vcpu: float
    memory_gib: float


class Overhead(Stated):
    """What is reserved on each node: vCPUs, a part of its memory, and a share of its memory."""

    vcpu: float
    memory_gib: float
    memory_share: float

    def node_for(self, pods: Size) -> Size:
        """Return the size of a node that leaves this much to its pods."""
        memory_gib = (pods.memory_gib + self.memory_gib) / (1 - self.memory_share)
        return Size(vcpu=pods.vcpu + self.vcpu, memory_gib=memory_gib)


class Services(Size):
    """The services that always run: the number of nodes, and the requests of the pods on each."""

    nodes: int


class PoolUsage(Stated):
    """The hours of tasks on a node pool, and the requests of one task."""

    task_hours: Amount
    task: Size


class Bucket(Stated):
    """Gigabytes in a bucket, and thousands of requests to it per month."""

    gb: Amount
    writes: Amount
    reads: Amount


class Usage(Stated):
    """The content of usage.yaml; see the comments there."""

    services: Mapping[str, Services]
    node_pools: Mapping[str, PoolUsage]
    short_task: Size
    node_overhead: Overhead
    spot_share: float
    amounts: Mapping[str, Amount]
    buckets: Mapping[str, Bucket]
    not_counted: tuple[str, ...]

    def services_of(self, stack: str) -> Services:
        """Return the services that always run in a stack."""
        return self.services.get(stack, self.services["default"])


def stated_usage(file: Path = FILE) -> Usage:
    """Read usage.yaml.

    Raises:
        DocumentError: The file cannot be read or is invalid.
    """
    return read_yaml(file, Usage)
