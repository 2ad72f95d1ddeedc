"""The rules that involve several settings: each yields a key and a sentence for every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from urllib.parse import urlsplit

from botocore.loaders import Loader
from botocore.regions import EndpointResolver

from infra import database_connections, helm_values
from infra.airflow_names import CPU_POOL, GPU_POOL, GPU_RESOURCE, POOL_TAINT
from infra.settings.instance_families import CPU_FAMILIES, GPU_FAMILIES
from infra.settings.models import (
    DagSettings,
    ExistingClusterSettings,
    NodePools,
    NodePoolSettings,
    ReleaseSettings,
    Settings,
)
from infra.settings.release_rules import Mistake, release_mistakes
from infra.settings.stack_summaries import SHORT_SSH, Source, StackSummaries

PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
ANYWHERE = IPv4Network("0.0.0.0/0")
PROD = "prod"
PROD_BRANCH = "main"

# A /16 is the largest VPC: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
# In a VPC smaller than a /20, a zone runs out of addresses at a few dozen nodes, because each node takes blocks of 16
# addresses for its pods: https://docs.aws.amazon.com/eks/latest/userguide/create-node-class.html
VPC_PREFIXES = range(16, 21)

# https://docs.aws.amazon.com/eks/latest/APIReference/API_KubernetesNetworkConfigRequest.html
SERVICE_PREFIXES = range(12, 25)

# https://karpenter.sh/docs/concepts/nodepools/#spectemplatemetadatalabels
RESERVED_LABEL = re.compile(
    rf"(^|[.])(kubernetes[.]io|k8s[.]io|karpenter[.]sh|eks[.]amazonaws[.]com)/|^({GPU_RESOURCE}|{POOL_TAINT})$"
)

# Namespaces that belong to Kubernetes or that every user of the cluster shares.
TAKEN_NAMESPACES = re.compile(r"default|kube-.*")


def mistakes(stack: str, settings: Settings, others: StackSummaries) -> Iterator[Mistake]:
    """Yield all mistakes in the settings of a stack on AWS; `others` are the other stacks by their names."""
    yield from _region(settings)
    yield from _addresses(settings, others)
    yield from _node_pools(settings)
    yield from _database(settings)
    yield from _connections(stack, settings)
    yield from _dags(settings.dags, others)
    yield from release_mistakes(stack, settings, others)
    if stack == PROD:
        yield from _prod(settings)


def mistakes_on_existing_cluster(
    stack: str, settings: ExistingClusterSettings, others: StackSummaries
) -> Iterator[Mistake]:
    """Yield all mistakes in the settings of a stack on an existing cluster; `others` are the other stacks."""
    for pattern in settings.contexts:
        if not pattern.strip("*"):
            yield "contexts", f"{pattern} matches every cluster: name the contexts that the stack may use"
    if TAKEN_NAMESPACES.fullmatch(settings.namespace):
        yield (
            "namespace",
            f"{settings.namespace} is reserved by Kubernetes: choose a namespace for Airflow alone, such as airflow",
        )
    if settings.dags:
        yield from _dags(settings.dags, others)
    yield from release_mistakes(stack, settings, others)


def _region(settings: Settings) -> Iterator[Mistake]:
    # Not through a boto3 session, which would read the user's profile.
    regions = EndpointResolver(Loader().load_data("endpoints")).get_available_endpoints("eks")
    if settings.region not in regions:
        yield "aws:region", f"{settings.region} is not a region with EKS: choose one of {', '.join(sorted(regions))}"
        return
    zones = settings.network.zones
    for zone in zones:
        if zone[:-1] != settings.region or not zone[-1].islower():
            yield (
                "network.zones",
                f"{zone} is not a zone of {settings.region}: use zones such as {settings.region}a, {settings.region}b",
            )
    if len(set(zones)) < len(zones):
        yield "network.zones", f"{', '.join(zones)} lists a zone twice: list each zone once"


def _addresses(settings: Settings, others: StackSummaries) -> Iterator[Mistake]:
    vpc, services = settings.network.cidr, settings.cluster.service_cidr
    yield from _private("network.cidr", vpc, VPC_PREFIXES)
    yield from _private("cluster.service_cidr", services, SERVICE_PREFIXES)
    if vpc.overlaps(services):
        yield "network.cidr", f"{vpc} overlaps cluster.service_cidr, {services}: choose another network"
    for name, other in others.items():
        if other.network and vpc.overlaps(other.network):
            yield (
                "network.cidr",
                f"{vpc} overlaps {other.network} in Pulumi.{name}.yaml, and VPCs that overlap cannot be connected: "
                "choose another network",
            )
    if settings.protect and ANYWHERE in settings.cluster.public_access_cidrs:
        yield (
            "cluster.public_access_cidrs",
            f"{ANYWHERE} is the whole internet: list your own networks where protect is true",
        )


def _private(key: str, network: IPv4Network, prefixes: range) -> Iterator[Mistake]:
    if not any(network.subnet_of(private) for private in PRIVATE) or network.prefixlen not in prefixes:
        yield (
            key,
            f"{network} is not allowed: choose a network of /{prefixes[0]} to /{prefixes[-1]} within "
            f"{', '.join(map(str, PRIVATE))}",
        )


def _node_pools(settings: Settings) -> Iterator[Mistake]:
    pools = settings.node_pools
    if CPU_POOL not in pools:
        yield "node_pools", f"the pool {CPU_POOL} is missing: add it, because Airflow itself runs there"
        return
    yield from _default_pools(pools)
    for name, pool in pools.items():
        key = f"node_pools.{name}"
        yield from _families(key, pool)
        yield from _labels(key, pool)
        yield from _budgets(key, pool)
        if pool.architecture != pools[CPU_POOL].architecture:
            yield (
                f"{key}.architecture",
                f"{pool.architecture} differs from node_pools.{CPU_POOL}: use one architecture, because both run the "
                "same images",
            )


def _default_pools(pools: NodePools) -> Iterator[Mistake]:
    if pools[CPU_POOL].max_gpus:
        yield f"node_pools.{CPU_POOL}.max_gpus", "Airflow itself runs there and needs no GPUs: add another pool"
    if pools[CPU_POOL].taints:
        yield (
            f"node_pools.{CPU_POOL}.taints",
            "Airflow itself runs there and tolerates no taints: add another pool with these taints",
        )
    gpu = pools.get(GPU_POOL)
    if gpu and not gpu.max_gpus:
        yield f"node_pools.{GPU_POOL}.max_gpus", "required, so that the bill always has a ceiling: set a number of GPUs"


def _families(key: str, pool: NodePoolSettings) -> Iterator[Mistake]:
    if pool.max_gpus:
        families, others, hint = GPU_FAMILIES, CPU_FAMILIES, "have no GPUs, but the pool has max_gpus"
    else:
        families, others, hint = CPU_FAMILIES, GPU_FAMILIES, "have GPUs, but the pool has no max_gpus"
    allowed = families[pool.architecture]
    wrong = [family for family in pool.instance_families if any(family in other for other in others.values())]
    unknown = [family for family in pool.instance_families if family not in allowed and family not in wrong]
    if wrong:
        yield f"{key}.instance_families", f"{', '.join(wrong)} {hint}: use one pool with GPUs and one without"
    if unknown:
        yield (
            f"{key}.instance_families",
            f"EKS Auto Mode has no {pool.architecture} instances of {', '.join(unknown)}: "
            f"choose from {' '.join(sorted(allowed))}",
        )


def _labels(key: str, pool: NodePoolSettings) -> Iterator[Mistake]:
    for kind, keys in (("labels", [*pool.labels]), ("taints", [taint.key for taint in pool.taints])):
        if reserved := [one for one in keys if RESERVED_LABEL.search(one)]:
            yield (
                f"{key}.{kind}",
                f"{', '.join(reserved)}: Kubernetes, Karpenter and EKS reserve these keys: use your own, such as team",
            )


def _budgets(key: str, pool: NodePoolSettings) -> Iterator[Mistake]:
    for number, budget in enumerate(pool.disruption_budgets):
        if (budget.schedule is None) != (budget.duration is None):
            yield (
                f"{key}.disruption_budgets.{number}",
                "schedule and duration must be set together: set both or neither",
            )


def _database(settings: Settings) -> Iterator[Mistake]:
    storage, most = settings.database.storage_gib, settings.database.max_storage_gib
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PIOPS.Autoscaling.html
    if most * 10 < storage * 11:
        yield (
            "database.max_storage_gib",
            f"{most} leaves the disk of {storage} GiB no room to grow: set {-(-storage * 11 // 10)} or more",
        )


def _connections(stack: str, settings: Settings) -> Iterator[Mistake]:
    instance_class = settings.database.instance_class
    available = database_connections.available_connections(instance_class)
    needed = database_connections.of_stack(helm_values.stack_values(stack))
    if (total := sum(needed.values())) > available:
        parts = ", ".join(f"{name} {count}" for name, count in needed.items())
        yield (
            "database.instance_class",
            f"{instance_class} allows {available} connections, but the stack opens up to {total} ({parts}): choose "
            f"{database_connections.class_for(total, instance_class) or 'a larger class'}",
        )


def _dags(dags: DagSettings, others: StackSummaries) -> Iterator[Mistake]:
    if _holds_password(dags.repository):
        # The sentence leaves out the address, because everything printed ends up in a log.
        yield (
            "dags.repository",
            "the address contains a user name or password: remove it, and store it with `make dags-key`",
        )
        return
    secure_shell = dags.repository.startswith("ssh://") or SHORT_SSH.fullmatch(dags.repository) is not None
    if dags.credentials == "ssh" and not secure_shell:
        yield "dags.credentials", f"{dags.repository} is not an SSH address: use git@<host>:<path>, or set token"
    if dags.credentials != "ssh" and secure_shell:
        yield "dags.credentials", f"{dags.repository} is an SSH address: set ssh, and set known_hosts"
    if dags.credentials == "token" and not dags.repository.startswith("https://"):
        yield "dags.repository", f"{dags.repository} would send the token unencrypted: use https://"
    if (dags.credentials == "ssh") != bool(dags.known_hosts.strip()):
        yield (
            "dags.known_hosts",
            "ssh credentials and known_hosts must be set together: set both (`ssh-keyscan <host>`) or neither",
        )
    source = Source.of(dags.repository, dags.branch)
    for name, other in others.items():
        if other.source == source:
            yield (
                "dags.branch",
                f"Pulumi.{name}.yaml also follows {dags.branch} of {source.repository}: use one branch for each stack",
            )


def _holds_password(repository: str) -> bool:
    parts = urlsplit(repository)
    return bool(parts.password or (parts.username and parts.scheme in ("http", "https")))


def _prod(settings: Settings) -> Iterator[Mistake]:
    required = (
        ("protect", settings.protect, "true"),
        ("network.nat_gateways", settings.network.nat_gateways == "one_per_zone", "one_per_zone"),
        ("network.zones", len(settings.network.zones) == 3, "three zones"),
        ("network.flow_log_days", settings.network.flow_log_days is not None, "a number of days"),
        ("cluster.log_types", "audit" in settings.cluster.log_types, "audit among them"),
        ("storage.access_log_days", settings.storage.access_log_days is not None, "a number of days"),
        ("database.multi_az", settings.database.multi_az, "true"),
        ("database.backup_days", settings.database.backup_days >= 7, "7 or more"),
        ("dags.branch", settings.dags.branch == PROD_BRANCH, PROD_BRANCH),
        *(_prod_release(settings.release) if settings.release else ()),
    )
    for key, kept, wanted in required:
        if not kept:
            yield key, f"required for the stack {PROD}: set {wanted}"


def _prod_release(release: ReleaseSettings) -> Iterable[tuple[str, bool, str]]:
    gates = ("tests", "dag_integrity", "plan_review", "upgrade_rehearsal")
    return (
        ("release.after", release.after is not None, "the previous stack"),
        *((f"release.gates.{gate}", bool(getattr(release.gates, gate)), "true") for gate in gates),
        ("release.gates.soak_hours", release.gates.soak_hours > 0, "a number of hours"),
    )
