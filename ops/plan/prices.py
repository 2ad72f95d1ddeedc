"""The dated price table, prices.yaml."""

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from infra.documents import read_yaml
from infra.errors import OperationError

FILE = Path(__file__).with_name("prices.yaml")
VCPUS = {"medium": 2, "large": 2, "xlarge": 4}  # beyond, a multiple of xlarge


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
    """An EC2 instance family.

    Attributes:
        architecture: The architecture of its processors.
        memory_gib_per_vcpu: The memory of most sizes.
        memory_gib: The memory of the other sizes.
        gpus: The GPUs of the sizes that have any.
        usd: US dollars per hour by size, On-Demand, Linux.
    """

    architecture: str
    memory_gib_per_vcpu: float
    memory_gib: Mapping[str, float] = {}
    gpus: Mapping[str, int] = {}
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
        gpus: Its GPUs.
        architecture: The architecture of its processors.
        price: Its On-Demand price per hour.
    """

    type: str
    vcpus: int
    memory_gib: float
    gpus: int
    architecture: str
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
        self, families: Collection[str], vcpus: float, memory_gib: float, gpus: int = 0, sizes: Collection[str] = ()
    ) -> Instance:
        """Return the cheapest instance of some families with at least these vCPUs, this memory and these GPUs.

        Without `sizes`, all sizes are allowed.

        Raises:
            OperationError: A family is not in the table, or none of its instances is large enough.
        """
        fitting = [
            instance
            for instance in self.instances_of(families, sizes)
            if instance.vcpus >= vcpus and instance.memory_gib >= memory_gib and instance.gpus >= gpus
        ]
        if not fitting:
            raise OperationError(
                f"no instance of {', '.join(families)} in prices.yaml has {vcpus:g} vCPUs, {memory_gib:g} GiB and "
                f"{gpus} GPUs: add larger sizes"
            )
        return min(fitting, key=lambda instance: (instance.price.usd, instance.type))

    def instances_of(self, families: Collection[str], sizes: Collection[str] = ()) -> list[Instance]:
        """Return the instances of some families; without `sizes`, those of all sizes.

        Raises:
            OperationError: A family is not in the table.
        """
        table = self.instances
        for name in families:
            if name not in table.families:
                raise OperationError(
                    f"prices.yaml has no price for the family {name}: add it under instances, from {table.source}"
                )
        return [
            self._instance(name, size)
            for name in families
            for size in table.families[name].usd
            if not sizes or size in sizes
        ]

    def _instance(self, name: str, size: str) -> Instance:
        table, family = self.instances, self.instances.families[name]
        vcpus = VCPUS.get(size) or int(size.removesuffix("xlarge")) * VCPUS["xlarge"]
        return Instance(
            type=f"{name}.{size}",
            vcpus=vcpus,
            memory_gib=family.memory_gib.get(size, vcpus * family.memory_gib_per_vcpu),
            gpus=family.gpus.get(size, 0),
            architecture=family.architecture,
            price=Price(usd=family.usd[size], unit="hour", source=table.source, as_of=table.as_of),
        )


def prices_of(region: str, file: Path = FILE) -> Prices | None:
    """Return the prices of a region, or None if the table has none; prices are never estimated."""
    return read_yaml(file, dict[str, Prices]).get(region)


def priced_regions(file: Path = FILE) -> list[str]:
    """Return the regions in the price table."""
    return sorted(read_yaml(file, dict[str, Prices]))
