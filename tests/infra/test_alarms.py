"""The alarms of a stack on AWS: what they watch, when they are sent, and who may send and read them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.aws.alarms import Alarm, database_alarms, quota_alarms
from infra.settings import NodePools, load_aws
from ops.plan.resources import Recording, Resource
from tests.recordings import recorded, recorded_with

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"


@pytest.fixture(scope="module")
def prod() -> Recording:
    return recorded("prod")


def only(found: Sequence[Resource]) -> Mapping[str, Any]:
    [one] = found
    return one.inputs


def alarms(recording: Recording) -> dict[str, Mapping[str, Any]]:
    return {one.inputs["name"]: one.inputs for one in recording.of_type(ALARM)}


def statements(policy: str) -> list[Any]:
    listed: list[Any] = json.loads(policy)["Statement"]
    return listed


def test_production_watches_its_database_each_nat_gateway_and_each_quota(prod: Recording) -> None:
    assert alarms(prod).keys() == {
        *(f"airflow-prod-database-{what}" for what in ("storage", "connections", "cpu", "memory")),
        *(f"airflow-prod-nat-us-east-1{letter}" for letter in "abc"),
        *("airflow-prod-vcpus-g-on-demand", "airflow-prod-vcpus-standard-on-demand"),
    }


def test_an_alarm_is_sent_when_it_begins_and_when_it_ends(prod: Recording) -> None:
    topic = [one for one in prod.of_type("aws:sns/topic:Topic") if one.inputs["name"] == "airflow-prod-alarms"]
    assert len(topic) == 1
    for name, inputs in alarms(prod).items():
        assert inputs["alarmActions"] == inputs["okActions"], name
        assert inputs["alarmActions"][0].endswith(":airflow-prod-alarms"), name


def test_the_database_alarms_watch_the_server_of_the_stack(prod: Recording) -> None:
    identifier = only(prod.of_type("aws:rds/instance:Instance"))["identifier"]
    watched = [one for name, one in alarms(prod).items() if "-database-" in name]
    [queries] = zip(*(one["metricQueries"] for one in watched), strict=True)
    assert {one["metric"]["dimensions"]["DBInstanceIdentifier"] for one in queries} == {identifier}
    assert all(one["returnData"] for one in queries)


def database(stack: str) -> dict[str, Alarm]:
    return {one.metric: one for one in database_alarms(load_aws(stack).database, "database")}


def test_the_thresholds_follow_from_the_size_of_the_database() -> None:
    prod, dev = database("prod"), database("dev")
    assert prod["FreeStorageSpace"].threshold == 5 * 2**30  # of 100 GiB
    assert dev["FreeStorageSpace"].threshold == 2**30  # of 20 GiB
    assert prod["FreeableMemory"].threshold == pytest.approx(0.05 * 8 * 2**30)
    assert dev["DatabaseConnections"].threshold == 68  # of 80
    assert dev["DatabaseConnections"].text.startswith("More than 85 % of the 80 connections that the database allows")


def test_only_a_database_that_sends_no_cpu_metrics_is_wrong_without_data() -> None:
    assert [metric for metric, one in database("prod").items() if one.without_data == "breaching"] == ["CPUUtilization"]


def test_a_quota_is_watched_as_a_share_of_its_current_value(prod: Recording) -> None:
    queries = alarms(prod)["airflow-prod-vcpus-g-on-demand"]["metricQueries"]
    used, share = sorted(queries, key=lambda query: query["id"] == "share")
    assert used["metric"]["dimensions"]["Class"] == "G/OnDemand"
    assert not used["returnData"]
    assert (share["expression"], share["returnData"]) == ("used / SERVICE_QUOTA(used) * 100", True)


def pools(**families: tuple[str, ...]) -> NodePools:
    settings = load_aws("dev").node_pools["cpu"]
    return {name: settings.model_copy(update={"instance_families": of}) for name, of in families.items()}


def test_pools_of_the_same_quota_share_an_alarm() -> None:
    watched = [one.purpose for one in quota_alarms(pools(cpu=("m7a", "t3"), large=("r7i",), gpu=("g6", "gr6")), "r")]
    assert watched == ["vcpus-g-on-demand", "vcpus-g-spot", "vcpus-standard-on-demand", "vcpus-standard-spot"]


@pytest.mark.parametrize(
    ("family", "on_demand", "spot"),
    [("x2idn", "X", "X"), ("p4d", "P", "P"), ("p5", "P", "P5"), ("i4i", "Standard", "Standard"), ("g5g", "G", "G")],
)
def test_families_count_towards_their_own_quota(family: str, on_demand: str, spot: str) -> None:
    found = {one.dimensions["Class"] for one in quota_alarms(pools(cpu=(family,)), "us-east-1")}
    assert found == {f"{on_demand}/OnDemand", f"{spot}/Spot"}


def test_only_cloudwatch_and_budgets_of_the_account_send_to_the_topic_and_use_its_key(prod: Recording) -> None:
    topic = only(prod.of_type("aws:sns/topic:Topic"))
    [key] = [one for one in prod.of_type("aws:kms/key:Key") if one.name == "cluster-key"]
    assert "cluster-key" in topic["kmsMasterKeyId"]
    services = {"cloudwatch.amazonaws.com", "budgets.amazonaws.com"}
    account = {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    sending = statements(only(prod.of_type("aws:sns/topicPolicy:TopicPolicy"))["policy"])
    using = [one for one in statements(key.inputs["policy"]) if one["Principal"].get("Service") in services]
    for listed, actions in ((sending, ["sns:Publish"]), (using, ["kms:Decrypt", "kms:GenerateDataKey"])):
        assert {one["Principal"]["Service"] for one in listed} == services
        assert all(one["Condition"] == account and one["Action"] == actions for one in listed)


def test_every_address_gets_the_alarms(prod: Recording) -> None:
    subscription = only(prod.of_type("aws:sns/topicSubscription:TopicSubscription"))
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", "ml-platform@example.com")


def test_a_budget_counts_the_costs_of_the_stack_and_sends_before_and_when_it_will_be_exceeded(tmp_path: Path) -> None:
    setting = "airflow:alarms: {emails: [a@ml.example, b@ml.example], monthly_budget_usd: 250}"
    dev = recorded_with(setting, "dev", tmp_path)
    budget = only(dev.of_type("aws:budgets/budget:Budget"))
    assert (budget["name"], budget["limitAmount"], budget["timeUnit"]) == ("airflow-dev-monthly", "250.00", "MONTHLY")
    assert budget["costFilters"] == [{"name": "TagKeyValue", "values": ["user:stack$dev"]}]
    sent = {
        (one["notificationType"], one["threshold"], *one["subscriberSnsTopicArns"]) for one in budget["notifications"]
    }
    topic = "arn:aws:sns:us-east-1:123456789012:airflow-dev-alarms"
    assert sent == {("ACTUAL", 80, topic), ("FORECASTED", 100, topic)}
    assert len(dev.of_type("aws:sns/topicSubscription:TopicSubscription")) == 2


def test_without_the_setting_there_are_no_alarms_and_no_services_in_the_policy_of_the_key() -> None:
    dev = recorded("dev")
    assert not alarms(dev)
    assert not dev.of_type("aws:sns/topic:Topic")
    for key in dev.of_type("aws:kms/key:Key"):
        assert "budgets.amazonaws.com" not in key.inputs["policy"]
