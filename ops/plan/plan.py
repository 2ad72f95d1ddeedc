"""The content of a plan, computed from recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.plan.architecture import Architecture, architecture
from ops.plan.cost import NODE_POOL_TYPE, Charge, charges, total, usage_of
from ops.plan.difference import Difference, difference
from ops.plan.grants import Grant
from ops.plan.permissions import grants
from ops.plan.prices import priced_regions, prices_of
from ops.plan.resources import Recording, Resource
from ops.plan.usage import Amount, Usage, stated_usage


@dataclass(frozen=True)
class Bill:
    """The monthly cost of a stack.

    Attributes:
        lines: The charges.
        total: Their sum.
        missing: Why there are no lines, if the cost is unknown.
    """

    lines: tuple[Charge, ...]
    total: Amount
    missing: str = ""


@dataclass(frozen=True)
class Plan:
    """The resources, cost, permissions and architecture of a stack."""

    recording: Recording
    bill: Bill
    usage: Usage
    grants: tuple[Grant, ...]
    architecture: Architecture

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of resources per service, highest first, without components and providers."""
        return dict(Counter(service(resource) for resource in made(self.recording)).most_common())

    @property
    def load(self) -> list[Amount]:
        """The usage that the cost assumes: the task hours of the stack's node pools, and the other amounts."""
        pools = self.recording.of_type(NODE_POOL_TYPE)
        return [*(usage_of(pool, self.usage).task_hours for pool in pools), *self.usage.amounts.values()]

    def tree(self) -> Iterator[tuple[int, Resource]]:
        """Yield every resource with its depth, parents before children, groups first."""
        yield from self._below("", 0)

    def _below(self, urn: str, depth: int) -> Iterator[tuple[int, Resource]]:
        for resource in sorted(self.recording.children(urn), key=lambda child: (child.custom, child.type, child.name)):
            yield depth, resource
            yield from self._below(resource.urn, depth + 1)


@dataclass(frozen=True)
class Comparison:
    """The comparison of a plan with another stack or ref: the differences, and the other bill."""

    other: str
    difference: Difference
    bill: Bill


def plan_of(recording: Recording) -> Plan:
    """Return the plan of a recorded stack.

    Raises:
        OperationError: The cost cannot be computed.
    """
    usage = stated_usage()
    return Plan(recording, _bill(recording, usage), usage, tuple(grants(recording)), architecture(recording))


def comparison(plan: Plan, name: str, other: Recording) -> Comparison:
    """Compare a plan with another recording, called `name`: the changes from that recording to this plan."""
    return Comparison(name, difference(other, plan.recording), _bill(other, plan.usage))


def made(recording: Recording) -> list[Resource]:
    """Return the resources that exist in a cloud or a cluster."""
    return [item for item in recording.resources if item.custom and not item.type.startswith("pulumi:")]


def service(resource: Resource) -> str:
    """Return the service that a resource belongs to, such as `ec2` or `kubernetes`."""
    package, module = resource.type.split(":")[:2]
    return module.split("/", maxsplit=1)[0] if package == "aws" else package


def _bill(recording: Recording, usage: Usage) -> Bill:
    prices = prices_of(recording.region)
    if prices is None:
        where, known = recording.region, ", ".join(priced_regions())
        missing = (
            f"prices.yaml has no prices for {where}, only for {known}: costs are not shown"
            if where
            else "costs are not computed for an existing cluster"
        )
        return Bill((), Amount(idle=0, load=0), missing)
    lines = tuple(charges(recording, prices, usage))
    return Bill(lines, total(lines))
