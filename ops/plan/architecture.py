"""The stack's architecture, derived from its resources, for the diagram and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.plan.cost import NODE_POOL_TYPE, disk_of, has_gpus, pool_name, requirement
from ops.plan.iam import components
from ops.plan.resources import Recording, Resource


@dataclass(frozen=True)
class Zone:
    """An availability zone.

    Attributes:
        name: Its name.
        public: The CIDR blocks of its public subnets.
        private: The CIDR blocks of its private subnets.
        nat: Whether it has a NAT gateway.
    """

    name: str
    public: tuple[str, ...]
    private: tuple[str, ...]
    nat: bool


@dataclass(frozen=True)
class Pool:
    """A node pool: its instances and limits."""

    name: str
    families: tuple[str, ...]
    architecture: str
    capacity: tuple[str, ...]
    limits: Mapping[str, str]
    disk_gib: float
    gpu: bool


@dataclass(frozen=True)
class Database:
    """The PostgreSQL server."""

    name: str
    version: str
    instance_class: str
    storage: str
    copies: int
    protect: bool
    changes: str


@dataclass(frozen=True)
class Bucket:
    """A bucket, and whether it is versioned."""

    name: str
    versioned: bool


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes cluster; `endpoint` describes who can reach its API."""

    name: str
    version: str
    endpoint: str
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Architecture:
    """The parts of a stack, with their names in AWS."""

    region: str
    vpc: str
    cidr: str
    zones: tuple[Zone, ...]
    endpoints: tuple[str, ...]
    flow_logs: bool
    cluster: Cluster | None
    database: Database | None
    buckets: tuple[Bucket, ...]
    repositories: tuple[str, ...]
    keys: tuple[str, ...]
    secrets: tuple[str, ...]
    roles: tuple[str, ...]
    identities: tuple[str, ...]


def architecture(recording: Recording) -> Architecture:
    """Derive the architecture from a recording; parts that the stack does not have are empty or None."""
    vpcs = recording.of_type("aws:ec2/vpc:Vpc")
    vpc = vpcs[0].inputs if vpcs else {}
    clusters = recording.of_type("aws:eks/cluster:Cluster")
    databases = recording.of_type("aws:rds/instance:Instance")
    associations = recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation")
    component = components(recording)
    return Architecture(
        region=recording.region,
        vpc=_tag(vpc, "Name"),
        cidr=vpc.get("cidrBlock", ""),
        zones=_zones(recording),
        endpoints=tuple(
            endpoint.inputs["serviceName"].split(".", 3)[-1]
            for endpoint in recording.of_type("aws:ec2/vpcEndpoint:VpcEndpoint")
        ),
        flow_logs=bool(recording.of_type("aws:ec2/flowLog:FlowLog")),
        cluster=_cluster(clusters[0], recording) if clusters else None,
        database=_database(databases[0]) if databases else None,
        buckets=_buckets(recording),
        repositories=_names(recording, "aws:ecr/repository:Repository"),
        keys=_names(recording, "aws:kms/alias:Alias"),
        secrets=_names(recording, "aws:secretsmanager/secret:Secret"),
        roles=_names(recording, "aws:iam/role:Role"),
        identities=tuple(sorted(component[link.inputs["roleArn"].rsplit("/", 1)[-1]] for link in associations)),
    )


def _zones(recording: Recording) -> tuple[Zone, ...]:
    subnets = recording.of_type("aws:ec2/subnet:Subnet")
    zone_of = {subnet.urn: subnet.inputs["availabilityZone"] for subnet in subnets}
    gateways = recording.of_type("aws:ec2/natGateway:NatGateway")
    with_nat = {zone_of[urn] for gateway in gateways for urn in gateway.dependencies if urn in zone_of}

    def cidrs(zone: str, *, public: bool) -> tuple[str, ...]:
        return tuple(
            subnet.inputs["cidrBlock"]
            for subnet in subnets
            if subnet.inputs["availabilityZone"] == zone and _public(subnet) == public
        )

    return tuple(
        Zone(zone, cidrs(zone, public=True), cidrs(zone, public=False), zone in with_nat)
        for zone in sorted(set(zone_of.values()))
    )


def _public(subnet: Resource) -> bool:
    """Return whether a subnet has the tag that EKS requires for internet-facing load balancers."""
    return "kubernetes.io/role/elb" in subnet.inputs.get("tags", {})


def _cluster(cluster: Resource, recording: Recording) -> Cluster:
    inputs = cluster.inputs
    access = inputs.get("vpcConfig", {})
    public = access.get("publicAccessCidrs", ["anywhere"]) if access.get("endpointPublicAccess") else []
    pools = recording.of_type(NODE_POOL_TYPE)
    return Cluster(
        name=inputs["name"],
        version=inputs["version"],
        endpoint=f"API from the VPC and {', '.join(public)}" if public else "API from the VPC only",
        pools=tuple(_pool(pool, recording) for pool in pools),
    )


def _pool(pool: Resource, recording: Recording) -> Pool:
    return Pool(
        name=pool_name(pool),
        families=tuple(requirement(pool, "instance-family")),
        architecture=", ".join(requirement(pool, "arch")),
        capacity=tuple(requirement(pool, "capacity-type")),
        limits={name: str(value) for name, value in pool.inputs["spec"].get("limits", {}).items()},
        disk_gib=disk_of(pool, recording).gib,
        gpu=has_gpus(pool),
    )


def _database(database: Resource) -> Database:
    inputs = database.inputs
    return Database(
        name=inputs["identifier"],
        version=f"{inputs['engine']} {inputs['engineVersion']}",
        instance_class=inputs["instanceClass"],
        storage=f"{inputs['allocatedStorage']} to {inputs.get('maxAllocatedStorage', inputs['allocatedStorage'])} GiB",
        copies=2 if inputs.get("multiAz") else 1,
        protect=database.protect,
        changes="immediately" if inputs.get("applyImmediately") else "in the next maintenance window",
    )


def _buckets(recording: Recording) -> tuple[Bucket, ...]:
    versioned = {
        versioning.inputs["bucket"]
        for versioning in recording.of_type("aws:s3/bucketVersioning:BucketVersioning")
        if versioning.inputs["versioningConfiguration"]["status"] == "Enabled"
    }
    names = [bucket.inputs["bucket"] for bucket in recording.of_type("aws:s3/bucket:Bucket")]
    return tuple(Bucket(name, name in versioned) for name in names)


def _names(recording: Recording, type_: str) -> tuple[str, ...]:
    return tuple(resource.inputs.get("name", resource.name) for resource in recording.of_type(type_))


def _tag(inputs: Mapping[str, Any], key: str) -> str:
    return str(inputs.get("tags", {}).get(key, ""))
