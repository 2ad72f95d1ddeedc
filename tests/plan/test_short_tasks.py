"""The short tasks that a stack can run, and their cost next to Amazon MWAA."""

import re

import pytest

from infra.documents import REPOSITORY
from ops.plan.plan import Plan, plan_of
from ops.plan.prices import Prices, prices_of
from ops.plan.resources import Resource
from ops.plan.short_tasks import QUOTA_TYPE, ShortTasks, admitted, mwaa_cost, short_tasks
from ops.plan.usage import Size, stated_usage
from tests.recordings import recorded

HOURS = 730


@pytest.fixture(scope="module")
def dev() -> Plan:
    return plan_of(recorded("dev"))


@pytest.fixture(scope="module")
def prices() -> Prices:
    found = prices_of("us-east-1")
    assert found
    return found


def found_in(plan: Plan) -> ShortTasks:
    found = short_tasks(plan)
    assert found
    return found


def test_a_thousand_tasks_cost_their_share_of_the_idle_stack_and_of_full_nodes(dev: Plan) -> None:
    # t3a.medium: 2 vCPUs less 0.1, and 4 GiB less 7.5 % and 1 GiB, which is room for five tasks of 0.5 GiB. Spot at
    # 45 % of On-Demand, 12 % for EKS Auto Mode, a disk of 40 GiB.
    node = 0.0376 * (0.45 + 0.12) + 40 * 0.08 / HOURS
    month = dev.bill.total.idle + 1_000 / 60 * HOURS / 24 * node / 5
    assert found_in(dev).costs[1_000].usd == pytest.approx(month / (1_000 * HOURS / 24) * 1_000)


def test_the_more_tasks_a_stack_runs_the_less_each_costs(dev: Plan) -> None:
    few, many = found_in(dev).costs.values()
    assert few.usd > 90 * many.usd


def test_no_cost_is_named_for_more_tasks_than_the_quota_admits(dev: Plan) -> None:
    assert (found_in(dev).at_once, found_in(dev).a_day) == (32, 32 * 24 * 60)
    assert list(found_in(dev).costs) == [10, 1_000]
    assert list(found_in(plan_of(recorded("prod"))).costs) == [10, 1_000, 100_000]


@pytest.mark.parametrize(
    ("hard", "count"),
    [
        ({"pods": "7", "requests.cpu": "8", "requests.memory": "64Gi"}, 7),
        ({"pods": "99", "requests.cpu": "1600m", "requests.memory": "64Gi"}, 6),
        ({"pods": "99", "requests.cpu": "8", "requests.memory": "2816Mi"}, 5),
    ],
)
def test_each_limit_of_the_quota_counts(hard: dict[str, str], count: int) -> None:
    quota = Resource(urn="quota", type=QUOTA_TYPE, name="tasks", inputs={"spec": {"hard": hard}}, parent="stack")
    assert admitted(quota, Size(vcpu=0.25, memory_gib=0.5)) == count


def test_mwaa_is_charged_for_its_environment_and_for_the_workers_beyond_the_first(prices: Prices) -> None:
    assert mwaa_cost(10, prices) == mwaa_cost(5 * 24 * 60, prices) == pytest.approx(0.49 * HOURS)
    assert mwaa_cost(3 * 5 * 24 * 60, prices) == pytest.approx((0.49 + 2 * 0.055) * HOURS)


def test_a_short_task_requests_what_the_pod_template_does() -> None:
    template = (REPOSITORY / "helm-values" / "pod-template.yaml").read_text()
    [(millicores, mebibytes)] = re.findall(r"requests: \{cpu: (\d+)m, memory: (\d+)Mi\}", template)
    assert stated_usage().short_task == Size(vcpu=int(millicores) / 1000, memory_gib=int(mebibytes) / 1024)


def test_a_stack_on_an_existing_cluster_has_no_prices() -> None:
    assert short_tasks(plan_of(recorded("local"))) is None
