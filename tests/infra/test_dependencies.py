"""The dependencies between resources; destroying follows the reverse order."""

from ops.plan.resources import Recording, Resource

NODE_POOL = "kubernetes:karpenter.sh/v1:NodePool"

# Resources that nodes need, and that therefore cannot depend on them.
BEFORE_NODES = (NODE_POOL, "kubernetes:eks.amazonaws.com/v1:NodeClass", "kubernetes:storage.k8s.io/v1:StorageClass")
NETWORK_POLICY_SWITCH = "network-policy-controller"


def prerequisites(recording: Recording, resource: Resource) -> set[str]:
    """All direct and indirect dependencies of a resource."""
    by_urn = {one.urn: one for one in recording.resources}
    providers = {
        f"{one.type}::{one.name}": one for one in recording.resources if one.type.startswith("pulumi:providers:")
    }
    found: set[str] = set()
    queue = [resource]
    while queue:
        one = queue.pop()
        wanted = [by_urn[urn] for urn in one.dependencies]
        wanted += [providers[one.provider]] if one.provider else []
        queue += [other for other in wanted if other.urn not in found]
        found |= {other.urn for other in wanted}
    return found


def urns(recording: Recording, *types: str) -> set[str]:
    return {resource.urn for resource in recording.of_type(*types)}


def of_kubernetes(recording: Recording) -> list[Resource]:
    return [r for r in recording.resources if r.provider.startswith("pulumi:providers:kubernetes::")]


def test_kubernetes_resources_depend_on_the_nodes_access(recording: Recording) -> None:
    access = urns(recording, "aws:eks/accessPolicyAssociation:AccessPolicyAssociation")
    for resource in of_kubernetes(recording):
        assert access <= prerequisites(recording, resource), resource.urn


def test_every_pod_depends_on_its_node_pool(recording: Recording) -> None:
    pools = urns(recording, NODE_POOL)
    assert pools
    for resource in of_kubernetes(recording):
        if resource.type not in BEFORE_NODES and resource.name != NETWORK_POLICY_SWITCH:
            assert pools <= prerequisites(recording, resource), resource.urn


def test_airflows_namespace_depends_on_nodes_identities_and_databases(recording: Recording) -> None:
    [namespace] = [n for n in recording.of_type("kubernetes:core/v1:Namespace") if n.name == "airflow"]
    needed = urns(
        recording,
        NODE_POOL,
        "kubernetes:storage.k8s.io/v1:StorageClass",
        "kubernetes:batch/v1:Job",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:rds/instance:Instance",
    ) - urns_of_flow_log(recording)
    assert needed <= prerequisites(recording, namespace)


def urns_of_flow_log(recording: Recording) -> set[str]:
    return {resource.urn for resource in recording.resources if resource.name == "flow-log-policy"}


def test_databases_depend_on_server_secret_and_nodes(recording: Recording) -> None:
    jobs = recording.of_type("kubernetes:batch/v1:Job")
    assert {job.name for job in jobs} == {"create-airflow", "create-mlflow", "create-features"}
    for job in jobs:
        needed = urns(recording, "aws:rds/instance:Instance", NODE_POOL)
        given = recording.of_type("kubernetes:core/v1:Secret", "kubernetes:core/v1:ConfigMap")
        needed |= {each.urn for each in given if each.name in (job.name, "create-database-script")}
        assert needed <= prerequisites(recording, job)


def test_the_cluster_depends_on_its_permissions_its_log_group_and_internet_access(recording: Recording) -> None:
    [cluster] = recording.of_type("aws:eks/cluster:Cluster")
    before = prerequisites(recording, cluster)
    assert urns(recording, "aws:ec2/route:Route", "aws:ec2/routeTableAssociation:RouteTableAssociation") <= before
    assert {r.urn for r in recording.resources if r.name.startswith("cluster-role-")} <= before
    assert {r.urn for r in recording.resources if r.name == "cluster-log-group"} <= before


def test_internet_access_depends_on_the_internet_gateway(recording: Recording) -> None:
    for gateway in recording.of_type("aws:ec2/natGateway:NatGateway"):
        assert urns(recording, "aws:ec2/internetGateway:InternetGateway") <= prerequisites(recording, gateway)


def test_access_logging_depends_on_the_policy_of_the_log_bucket(prod: Recording) -> None:
    [policy] = [p for p in prod.of_type("aws:s3/bucketPolicy:BucketPolicy") if p.name == "access-logs-policy"]
    for logging in prod.of_type("aws:s3/bucketLogging:BucketLogging"):
        assert policy.urn in prerequisites(prod, logging)


def test_an_identity_depends_on_its_permissions(recording: Recording) -> None:
    for association in recording.of_type("aws:eks/podIdentityAssociation:PodIdentityAssociation"):
        component = association.name.removesuffix("-identity")
        rights = {r.urn for r in recording.resources if r.name == f"{component}-policy"}
        assert rights <= prerequisites(recording, association)
