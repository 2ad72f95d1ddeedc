"""What the monthly cost is counted for: usage.yaml."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from infra.documents import read_yaml

FILE = Path(__file__).with_name("usage.yaml")


class Stated(BaseModel):
    """A part of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Amount(Stated):
    """A quantity a month, of an idle stack and of one at the stated load."""

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
    """What pods ask for."""

    vcpu: float
    memory_gib: float

    def __add__(self, other: "Size") -> "Size":
        """Add both."""
        return Size(vcpu=self.vcpu + other.vcpu, memory_gib=self.memory_gib + other.memory_gib)


class Services(Size):
    """What always runs: so many nodes, each with pods that ask for so much."""

    nodes: int


class Bucket(Stated):
    """Gigabytes in a bucket, and thousands of requests to it a month."""

    gb: Amount
    writes: Amount
    reads: Amount


class Usage(Stated):
    """The whole file; it explains itself."""

    services: Mapping[str, Services]
    tasks: Mapping[str, Size]
    node_overhead: Size
    spot_share: float
    amounts: Mapping[str, Amount]
    buckets: Mapping[str, Bucket]
    not_counted: tuple[str, ...]

    def services_of(self, stack: str) -> Services:
        """Return what always runs in a stack."""
        return self.services.get(stack, self.services["default"])


def stated_usage(file: Path = FILE) -> Usage:
    """Read the file.

    Raises:
        DocumentError: It cannot be read, or something in it is wrong.
    """
    return read_yaml(file, Usage)
