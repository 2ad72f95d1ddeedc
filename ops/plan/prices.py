"""The dated price table, prices.yaml."""

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from infra.documents import read_yaml
from infra.errors import OperationError

FILE = Path(__file__).with_name("prices.yaml")
VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}


class Table(BaseModel):
    """Base class of the parts of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Price(Table):
    """The price of one unit.

    Attributes:
        usd: US dollars for one unit.
        unit: The unit, such as `hour` or `GB and month`.
        source: AWS' page with this price.
        as_of: The day on which it was last compared with AWS' price list, or None if it was not compared yet.
    """

    usd: float
    unit: str
    source: str
    as_of: date | None = None


class Databases(Table):
    """PostgreSQL servers in one zone: US dollars per hour by instance class."""

    source: str
    as_of: date | None = None
    usd: Mapping[str, float]


class Share(Table):
    """A price that is a fraction of another."""

    share: float
    source: str
    as_of: date | None = None


class Family(Table):
    """An EC2 instance family: US dollars per hour by size, On-Demand, Linux."""

    architecture: str
    memory_gib_per_vcpu: float
    gpu: bool = False
    usd: Mapping[str, float]


class Instances(Table):
    """EC2 instances, and the fee of EKS Auto Mode for each."""

    source: str
    as_of: date | None = None
    auto_mode_fee: Share
    families: Mapping[str, Family]


class Instance(Table):
    """One EC2 instance type.

    Attributes:
        type: Its name, such as m7a.large.
        vcpus: Its vCPUs.
        memory_gib: Its memory.
        price: Its On-Demand price per hour.
    """

    type: str
    vcpus: int
    memory_gib: float
    price: Price


class Prices(Table):
    """The prices of one region."""

    services: Mapping[str, Price]
    databases: Databases
    instances: Instances

    def service(self, name: str) -> Price:
        """Return the price of a service.

        Raises:
            OperationError: It is not in the table.
        """
        if name not in self.services:
            raise OperationError(
                f"prices.yaml has no price for {name}: add it under services, with its source and date"
            )
        return self.services[name]

    def database(self, instance_class: str) -> Price:
        """Return the price of a PostgreSQL server in one zone.

        Raises:
            OperationError: It is not in the table.
        """
        table = self.databases
        if instance_class not in table.usd:
            raise OperationError(
                f"prices.yaml has no price for {instance_class}: add it under databases, from {table.source}"
            )
        return Price(usd=table.usd[instance_class], unit="hour", source=table.source, as_of=table.as_of)

    def auto_mode(self, instance: Instance) -> Price:
        """Return the fee of EKS Auto Mode for one hour of an instance."""
        fee = self.instances.auto_mode_fee
        return Price(usd=instance.price.usd * fee.share, unit="hour", source=fee.source, as_of=fee.as_of)

    def cheapest_instance(
        self, families: Collection[str], vcpus: float, memory_gib: float, sizes: Collection[str] = ()
    ) -> Instance:
        """Return the cheapest instance of some families with at least this many vCPUs and this much memory.

        Without `sizes`, all sizes are allowed.

        Raises:
            OperationError: A family is not in the table, or none of its instances is large enough.
        """
        table = self.instances
        for name in families:
            if name not in table.families:
                raise OperationError(
                    f"prices.yaml has no price for the family {name}: add it under instances, from {table.source}"
                )
        fitting = [
            instance
            for name in families
            for instance in self._instances(name)
            if instance.vcpus >= vcpus
            and instance.memory_gib >= memory_gib
            and (not sizes or instance.type.partition(".")[2] in sizes)
        ]
        if not fitting:
            raise OperationError(
                f"no instance of {', '.join(families)} in prices.yaml has {vcpus:g} vCPUs and {memory_gib:g} GiB: "
                "add larger sizes"
            )
        return min(fitting, key=lambda instance: (instance.price.usd, instance.type))

    def _instances(self, name: str) -> Iterator[Instance]:
        table, family = self.instances, self.instances.families[name]
        for size, usd in family.usd.items():
            yield Instance(
                type=f"{name}.{size}",
                vcpus=VCPUS[size],
                memory_gib=VCPUS[size] * family.memory_gib_per_vcpu,
                price=Price(usd=usd, unit="hour", source=table.source, as_of=table.as_of),
            )


def prices_of(region: str, file: Path = FILE) -> Prices | None:
    """Return the prices of a region, or None if the table has none; prices are never estimated."""
    return read_yaml(file, dict[str, Prices]).get(region)


def priced_regions(file: Path = FILE) -> list[str]:
    """Return the regions in the price table."""
    return sorted(read_yaml(file, dict[str, Prices]))
