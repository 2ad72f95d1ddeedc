"""How many short tasks a stack can run, and what a thousand of them cost, next to Amazon MWAA's list prices.

A short task runs for a minute and requests what the pod template does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

from infra.airflow_names import CPU_POOL
from ops.plan.cost import HOURS, NODE_POOL_TYPE, capacity_price, disk_of, instance_for, pool_name
from ops.plan.plan import Plan
from ops.plan.prices import Price, Prices, prices_of
from ops.plan.resources import Resource
from ops.plan.usage import Size

QUOTA_TYPE = "kubernetes:core/v1:ResourceQuota"
A_DAY = (10, 1_000, 100_000)
MINUTES_A_DAY = 24 * 60
DAYS = HOURS / 24
# An environment of the class mw1.small includes one worker, and each worker runs five tasks at once:
# https://docs.aws.amazon.com/mwaa/latest/userguide/environment-class.html
MWAA_CLASS, MWAA_TASKS = "mw1.small", 5


@dataclass(frozen=True)
class Cost:
    """US dollars per thousand tasks: of this stack, and of MWAA."""

    usd: float
    mwaa: float


@dataclass(frozen=True)
class ShortTasks:
    """What a stack can run, and what it costs.

    Attributes:
        at_once: The tasks that the quota admits at once.
        costs: The cost by the number of tasks a day, as far as the quota admits them.
        mwaa_price: The price of an hour of MWAA's environment.
    """

    at_once: int
    costs: Mapping[int, Cost]
    mwaa_price: Price

    @property
    def a_day(self) -> int:
        """The tasks that the quota admits a day, if pods took no time to start."""
        return self.at_once * MINUTES_A_DAY


def short_tasks(plan: Plan) -> ShortTasks | None:
    """Return the numbers of a stack; None for a stack without node pools, or without prices."""
    prices = prices_of(plan.recording.region)
    pools = [pool for pool in plan.recording.of_type(NODE_POOL_TYPE) if pool_name(pool) == CPU_POOL]
    if prices is None or not pools:
        return None
    [quota] = plan.recording.of_type(QUOTA_TYPE)
    at_once = admitted(quota, plan.usage.short_task)
    hourly = hourly_cost(plan, pools[0], prices)
    costs = {
        count: Cost(
            per_thousand(plan.bill.total.idle + count / 60 * DAYS * hourly, count),
            per_thousand(mwaa_cost(count, prices), count),
        )
        for count in A_DAY
        if count <= at_once * MINUTES_A_DAY
    }
    return ShortTasks(at_once, costs, prices.service("mwaa_environment"))


def admitted(quota: Resource, task: Size) -> int:
    """Return how many tasks the quota of task pods admits at once."""
    hard = {name: float(parse_quantity(amount)) for name, amount in quota.inputs["spec"]["hard"].items()}
    return int(min(hard["pods"], hard["requests.cpu"] / task.vcpu, hard["requests.memory"] / 2**30 / task.memory_gib))


def hourly_cost(plan: Plan, pool: Resource, prices: Prices) -> float:
    """Return the US dollars for one hour of a task on a full node of a pool, with its disk and the Auto Mode fee."""
    task, overhead = plan.usage.short_task, plan.usage.node_overhead
    instance = instance_for(pool, prices, overhead.node_for(task), gpus=0)
    memory = instance.memory_gib * (1 - overhead.memory_share) - overhead.memory_gib
    tasks = int(min((instance.vcpus - overhead.vcpu) / task.vcpu, memory / task.memory_gib))
    disk = disk_of(pool, plan.recording).gib * prices.service("ebs_gp3").usd / HOURS
    return (capacity_price(instance, pool, plan.usage).usd + prices.auto_mode(instance).usd + disk) / tasks


def mwaa_cost(count: int, prices: Prices) -> float:
    """Return the US dollars per month of an MWAA environment with as many workers as it needs on average."""
    more_workers = max(0.0, count / MINUTES_A_DAY / MWAA_TASKS - 1)
    return HOURS * (prices.service("mwaa_environment").usd + more_workers * prices.service("mwaa_worker").usd)


def per_thousand(usd: float, count: int) -> float:
    """Return the share of a thousand tasks of the cost of a month with `count` tasks a day."""
    return usd / (count * DAYS) * 1000
