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

    def __add__(self, other: "Size") -> "Size":
        """Add CPU and memory."""
        return Size(vcpu=self.vcpu + other.vcpu, memory_gib=self.memory_gib + other.memory_gib)


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
    node_overhead: Size
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
