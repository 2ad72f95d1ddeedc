"""CloudWatch alarms and the stack's budget, and the SNS topic that sends them to people."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_aws as aws

from infra import database_connections
from infra.aws.account import Account
from infra.aws.database import Database
from infra.aws.names import Limit
from infra.aws.network import Network
from infra.aws.policies import ALARM_SENDERS, Statement, document, this_account
from infra.settings import AlarmSettings, DatabaseSettings, NodePools
from infra.settings.instance_families import quota_class

PERIOD_SECONDS = 300
PERIODS = 3

# RDS adds storage when less than 10 % is free, unless it has reached its maximum:
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
FREE_STORAGE_PERCENT = 5
CONNECTIONS_PERCENT = 85
CPU_PERCENT = 90
FREE_MEMORY_PERCENT = 5
QUOTA_PERCENT = 80
BUDGET_PERCENT = 80

QUOTAS = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
# The names in the dimension `Class`: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html
QUOTA_CLASSES = {"standard": "Standard", "g": "G", "p": "P", "p5": "P5", "x": "X"}
CAPACITY_TYPES = {"on-demand": "OnDemand", "spot": "Spot"}


@dataclass(frozen=True)
class Alarm:
    """When an alarm is sent, and what it says.

    Attributes:
        purpose: The purpose in the alarm's name.
        text: What is wrong, and what to do.
        namespace: The namespace of the metric.
        metric: The name of the metric.
        dimensions: The dimensions of the metric.
        statistic: How values within a period are combined.
        comparison: Whether values above or below the threshold are wrong.
        threshold: The threshold, in the unit of the metric, or in percent of the quota.
        without_data: What a period without values means.
        of_quota: Whether the metric is compared with the service quota that it belongs to.
    """

    purpose: str
    text: str
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    statistic: Literal["Average", "Maximum", "Sum"]
    comparison: Literal["GreaterThanThreshold", "LessThanThreshold"]
    threshold: float
    without_data: Literal["breaching", "missing", "notBreaching"] = "missing"
    of_quota: bool = False


def database_alarms(settings: DatabaseSettings, identifier: pulumi.Input[str]) -> Iterator[Alarm]:
    """Yield the alarms about the database."""
    free_storage = settings.storage_gib * 2**30 * FREE_STORAGE_PERCENT / 100
    connections = database_connections.available_connections(settings.instance_class)
    memory = database_connections.memory_gib(settings.instance_class) * 2**30
    larger = "set airflow:database: instance_class to a larger class and deploy"

    def alarm(
        purpose: str,
        text: str,
        metric: str,
        comparison: Literal["GreaterThanThreshold", "LessThanThreshold"],
        threshold: float,
        without_data: Literal["breaching", "missing"] = "missing",
    ) -> Alarm:
        return Alarm(
            purpose=f"database-{purpose}",
            text=text,
            namespace="AWS/RDS",
            metric=metric,
            dimensions={"DBInstanceIdentifier": identifier},
            statistic="Average",
            comparison=comparison,
            threshold=threshold,
            without_data=without_data,
        )

    yield alarm(
        "storage",
        f"The database has less than {free_storage / 2**30:.1f} GiB of free storage, and stops when it is full: raise "
        "airflow:database: max_storage_gib and deploy.",
        "FreeStorageSpace",
        "LessThanThreshold",
        free_storage,
    )
    yield alarm(
        "connections",
        f"More than {CONNECTIONS_PERCENT} % of the {connections} connections that the database allows are in use: "
        f"{larger}.",
        "DatabaseConnections",
        "GreaterThanThreshold",
        connections * CONNECTIONS_PERCENT // 100,
    )
    yield alarm(
        "cpu",
        f"The database has used more than {CPU_PERCENT} % of its CPU for {PERIODS * PERIOD_SECONDS // 60} minutes, or "
        f"sends no metrics: check its status and Performance Insights in the RDS console, or {larger}.",
        "CPUUtilization",
        "GreaterThanThreshold",
        CPU_PERCENT,
        # A server that is down sends nothing.
        "breaching",
    )
    yield alarm(
        "memory",
        f"Less than {FREE_MEMORY_PERCENT} % of the database's memory is free: {larger}.",
        "FreeableMemory",
        "LessThanThreshold",
        memory * FREE_MEMORY_PERCENT / 100,
    )


def nat_alarms(gateway_ids: Mapping[str, pulumi.Input[str]]) -> Iterator[Alarm]:
    """Yield the alarms about the NAT gateways, given their IDs by zone.

    https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
    """
    for zone, id_ in gateway_ids.items():
        yield Alarm(
            purpose=f"nat-{zone}",
            text=f"The NAT gateway in {zone} could not open connections, because it has too many to the same address: "
            "set airflow:network: nat_gateways to one_per_zone, or let tasks use connections again.",
            namespace="AWS/NATGateway",
            metric="ErrorPortAllocation",
            dimensions={"NatGatewayId": id_},
            statistic="Sum",
            comparison="GreaterThanThreshold",
            threshold=0,
            without_data="notBreaching",
        )


def quota_alarms(node_pools: NodePools, region: str) -> Iterator[Alarm]:
    """Yield an alarm for each vCPU quota that the node pools use."""
    used = {
        (quota_class(family, capacity), capacity)
        for pool in node_pools.values()
        for family in pool.instance_families
        for capacity in pool.capacity_types
    }
    for kind, capacity in sorted(used):
        name = f"{QUOTA_CLASSES[kind]}/{CAPACITY_TYPES[capacity]}"
        yield Alarm(
            purpose=f"vcpus-{kind}-{capacity}",
            text=f"More than {QUOTA_PERCENT} % of the account's {name} vCPUs in {region} are in use, and nodes beyond "
            f"the quota do not start: request an increase at {QUOTAS}.",
            namespace="AWS/Usage",
            metric="ResourceCount",
            dimensions={"Service": "EC2", "Type": "Resource", "Resource": "vCPU", "Class": name},
            statistic="Maximum",
            comparison="GreaterThanThreshold",
            threshold=QUOTA_PERCENT,
            # Without instances of the class there are no values.
            without_data="notBreaching",
            of_quota=True,
        )


class Alarms(pulumi.ComponentResource):
    """The alarms, the budget, and the topic.

    Attributes:
        topic_arn: The ARN of the topic.
    """

    topic_arn: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: AlarmSettings,
        account: Account,
        network: Network,
        database: Database,
        database_settings: DatabaseSettings,
        node_pools: NodePools,
        key_arn: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the topic, its recipients and what sends to it; `key_arn` encrypts the messages."""
        super().__init__("airflow:aws:Alarms", name, opts=opts)
        self._account = account

        topic, policy = self._create_topic(key_arn, pulumi.ResourceOptions(parent=self))
        self.topic_arn = topic.arn
        # What is sent before the policy allows it is lost.
        self._child_opts = pulumi.ResourceOptions(parent=self, depends_on=[policy])
        for email in settings.emails:
            self._subscribe(email)
        self._create_alarms(database_alarms(database_settings, database.identifier))
        self._create_alarms(nat_alarms(network.nat_gateway_ids))
        self._create_alarms(quota_alarms(node_pools, account.region))
        if settings.monthly_budget_usd is not None:
            self._create_budget(settings.monthly_budget_usd)

        self.register_outputs({"topic_arn": self.topic_arn})

    def _create_topic(
        self, key_arn: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> tuple[aws.sns.Topic, pulumi.Resource]:
        topic = aws.sns.Topic(
            "alarms-topic",
            name=self._account.names.of("alarms", Limit.TOPIC),
            kms_master_key_id=key_arn,
            opts=opts,
        )
        policy = aws.sns.TopicPolicy(
            "alarms-topic-policy",
            arn=topic.arn,
            policy=pulumi.Output.all(topic.arn, self._account.id).apply(lambda known: topic_policy(*known)),
            opts=opts,
        )
        return topic, policy

    def _subscribe(self, email: str) -> None:
        aws.sns.TopicSubscription(
            f"alarms-to-{email}", topic=self.topic_arn, protocol="email", endpoint=email, opts=self._child_opts
        )

    def _create_alarms(self, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            aws.cloudwatch.MetricAlarm(
                f"alarm-{alarm.purpose}",
                name=self._account.names.of(alarm.purpose, Limit.ALARM),
                alarm_description=alarm.text,
                metric_queries=_queries(alarm),
                comparison_operator=alarm.comparison,
                threshold=alarm.threshold,
                evaluation_periods=PERIODS,
                treat_missing_data=alarm.without_data,
                alarm_actions=[self.topic_arn],
                ok_actions=[self.topic_arn],
                opts=self._child_opts,
            )

    def _create_budget(self, usd: float) -> None:
        stack = self._account.tags["stack"]

        def notification(kind: str, percent: int) -> aws.budgets.BudgetNotificationArgs:
            return aws.budgets.BudgetNotificationArgs(
                comparison_operator="GREATER_THAN",
                threshold=percent,
                threshold_type="PERCENTAGE",
                notification_type=kind,
                subscriber_sns_topic_arns=[self.topic_arn],
            )

        aws.budgets.Budget(
            "budget",
            name=self._account.names.of("monthly", Limit.BUDGET),
            account_id=self._account.id,
            budget_type="COST",
            limit_amount=f"{usd:.2f}",
            limit_unit="USD",
            time_unit="MONTHLY",
            cost_filters=[aws.budgets.BudgetCostFilterArgs(name="TagKeyValue", values=[f"user:stack${stack}"])],
            notifications=[notification("ACTUAL", BUDGET_PERCENT), notification("FORECASTED", 100)],
            opts=self._child_opts,
        )


def topic_policy(topic_arn: str, account: str) -> str:
    """Return a policy that lets CloudWatch and AWS Budgets of this account send to the topic."""
    return document(
        *(
            Statement(("sns:Publish",), (topic_arn,), conditions=this_account(account), principals={"Service": service})
            for service in ALARM_SENDERS
        )
    )


def _queries(alarm: Alarm) -> list[aws.cloudwatch.MetricAlarmMetricQueryArgs]:
    """Return the query of the metric and, if it is compared with its quota, that of its share in percent."""
    metric = aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
        namespace=alarm.namespace,
        metric_name=alarm.metric,
        dimensions=alarm.dimensions,
        stat=alarm.statistic,
        period=PERIOD_SECONDS,
    )
    query = aws.cloudwatch.MetricAlarmMetricQueryArgs
    used = query(id="used", metric=metric, return_data=not alarm.of_quota)
    if not alarm.of_quota:
        return [used]
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-Quotas-Visualize-Alarms.html
    share = "used / SERVICE_QUOTA(used) * 100"
    return [used, query(id="share", expression=share, label="used, in percent of the quota", return_data=True)]
