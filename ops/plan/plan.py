"""Everything that a plan shows, computed from recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ops.plan.architecture import Architecture, architecture
from ops.plan.cost import Charge, charges, total
from ops.plan.difference import Difference, difference
from ops.plan.iam import Grant, grants
from ops.plan.prices import priced_regions, prices_of
from ops.plan.resources import Recording, Resource
from ops.plan.usage import Amount, Usage, stated_usage


@dataclass(frozen=True)
class Bill:
    """What a stack costs a month, line by line; without prices for its region there is only a reason."""

    lines: tuple[Charge, ...]
    total: Amount
    missing: str = ""


@dataclass(frozen=True)
class Plan:
    """One stack, seen from every side."""

    recording: Recording
    bill: Bill
    usage: Usage
    grants: tuple[Grant, ...]
    architecture: Architecture

    @property
    def counts(self) -> Mapping[str, int]:
        """How many resources each service has, the most first; components and providers are not counted."""
        return dict(Counter(service(resource) for resource in made(self.recording)).most_common())

    def tree(self) -> Iterator[tuple[int, Resource]]:
        """Yield every resource with its depth, parents before children, groups first."""
        yield from self._below("", 0)

    def _below(self, urn: str, depth: int) -> Iterator[tuple[int, Resource]]:
        for resource in sorted(self.recording.children(urn), key=lambda child: (child.custom, child.type, child.name)):
            yield depth, resource
            yield from self._below(resource.urn, depth + 1)


@dataclass(frozen=True)
class Comparison:
    """A plan beside another: what differs, and what that costs."""

    other: str
    difference: Difference
    bill: Bill


def plan_of(recording: Recording) -> Plan:
    """Return the plan of a recorded stack.

    Raises:
        OperationError: Its cost cannot be known.
    """
    usage = stated_usage()
    return Plan(recording, _bill(recording, usage), usage, tuple(grants(recording)), architecture(recording))


def comparison(plan: Plan, name: str, other: Recording) -> Comparison:
    """Compare a plan with another recording, which `name` names: what it takes to get from that one to this one."""
    return Comparison(name, difference(other, plan.recording), _bill(other, plan.usage))


def made(recording: Recording) -> list[Resource]:
    """Return the resources that a cloud or a cluster makes."""
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
            f"prices.yaml has no prices for {where}, only for {known}: costs are left out"
            if where
            else "an existing cluster costs what it costs anyway"
        )
        return Bill((), Amount(idle=0, load=0), missing)
    lines = tuple(charges(recording, prices, usage))
    return Bill(lines, total(lines))
