"""The node pools and volumes of EKS Auto Mode: the instances that Karpenter may start, and their limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.airflow_names import CPU_POOL, GPU_POOL, GPU_RESOURCE, POOL_TAINT
from infra.aws.account import Account
from infra.aws.cluster import Cluster
from infra.aws.names import Limit
from infra.aws.network import Network
from infra.aws.policies import trust
from infra.settings import DisruptionBudget, NodePoolSettings

# https://docs.aws.amazon.com/eks/latest/userguide/auto-create-node-role.html
NODE_POLICIES = ("AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly")
AUTO_NODE_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSAutoNodePolicy"

# Disk throughput in MiB/s and IOPS: an ML image has several GB, and a GPU waits while it is pulled.
# Values above the free 125 and 3000 are billed while a node runs.
# https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html#gp3-ebs-volume-type
GPU_DISK_THROUGHPUT = 500
GPU_DISK_IOPS = 4000


class NodePools(pulumi.ComponentResource):
    """The node pools, and the default StorageClass.

    Attributes:
        storage_class: The name of the StorageClass.
    """

    storage_class: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: Mapping[str, NodePoolSettings],
        account: Account,
        cluster: Cluster,
        network: Network,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the pools in the private subnets."""
        super().__init__("airflow:aws:NodePools", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._account = account
        self._cluster = cluster
        self._subnet_ids = network.private_subnet_ids

        self._role_name, access = self._create_role()
        self._kubernetes_opts = pulumi.ResourceOptions.merge(
            self._child_opts, pulumi.ResourceOptions(provider=cluster.provider, depends_on=access)
        )
        self._enforce_network_policies()
        for pool, pool_settings in settings.items():
            self._create_pool(pool, pool_settings)
        self.storage_class = self._create_storage_class()

        self.register_outputs({"storage_class": self.storage_class})

    def _create_role(self) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
        role = aws.iam.Role(
            "node-role",
            name=self._account.names.of("node", Limit.ROLE),
            assume_role_policy=trust("ec2.amazonaws.com"),
            permissions_boundary=self._account.permissions_boundary,
            opts=self._child_opts,
        )
        attachments = [
            aws.iam.RolePolicyAttachment(
                f"node-role-{policy}",
                role=role.name,
                policy_arn=f"arn:aws:iam::aws:policy/{policy}",
                opts=self._child_opts,
            )
            for policy in NODE_POLICIES
        ]
        entry = aws.eks.AccessEntry(
            "node-access",
            cluster_name=self._cluster.name,
            principal_arn=role.arn,
            type="EC2",
            opts=self._child_opts,
        )
        association = aws.eks.AccessPolicyAssociation(
            "node-access-policy",
            cluster_name=self._cluster.name,
            principal_arn=entry.principal_arn,
            policy_arn=AUTO_NODE_POLICY,
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            opts=self._child_opts,
        )
        return role.name, [*attachments, association]

    def _enforce_network_policies(self) -> None:
        # Without it, NetworkPolicies have no effect, whatever the NodeClass says:
        # https://docs.aws.amazon.com/eks/latest/userguide/auto-net-pol.html
        kubernetes.core.v1.ConfigMap(
            "network-policy-controller",
            metadata=ObjectMetaArgs(name="amazon-vpc-cni", namespace="kube-system"),
            data={"enable-network-policy-controller": "true"},
            opts=self._kubernetes_opts,
        )

    def _create_pool(self, name: str, settings: NodePoolSettings) -> None:
        spec = pulumi.Output.all(
            role=self._role_name, subnet_ids=self._subnet_ids, security_group_id=self._cluster.security_group_id
        ).apply(lambda known: node_class_spec(settings, self._account.tags, **known))
        node_class = kubernetes.apiextensions.CustomResource(
            f"{name}-node-class",
            api_version="eks.amazonaws.com/v1",
            kind="NodeClass",
            metadata=ObjectMetaArgs(name=name),
            spec=spec,
            opts=self._kubernetes_opts,
        )
        kubernetes.apiextensions.CustomResource(
            f"{name}-node-pool",
            api_version="karpenter.sh/v1",
            kind="NodePool",
            metadata=ObjectMetaArgs(name=name),
            spec=node_pool_spec(name, settings),
            opts=pulumi.ResourceOptions.merge(self._kubernetes_opts, pulumi.ResourceOptions(depends_on=[node_class])),
        )

    def _create_storage_class(self) -> pulumi.Output[str]:
        storage_class = kubernetes.storage.v1.StorageClass(
            "gp3",
            metadata=ObjectMetaArgs(name="gp3", annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
            provisioner="ebs.csi.eks.amazonaws.com",
            parameters={"type": "gp3", "encrypted": "true", **volume_tags(self._account.tags)},
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            reclaim_policy="Retain" if self._account.protect else "Delete",
            opts=self._kubernetes_opts,
        )
        return storage_class.metadata.name.apply(str)


def node_class_spec(
    settings: NodePoolSettings, tags: Mapping[str, str], role: str, subnet_ids: Sequence[str], security_group_id: str
) -> dict[str, Any]:
    """Return the spec of the NodeClass.

    Only tags that do not change are included, because a change to the NodeClass replaces all its nodes.
    https://docs.aws.amazon.com/eks/latest/userguide/create-node-class.html
    """
    disk: dict[str, Any] = {"size": f"{settings.disk_gib}Gi"}
    if settings.max_gpus:
        disk |= {"iops": GPU_DISK_IOPS, "throughput": GPU_DISK_THROUGHPUT}
    return {
        "role": role,
        "subnetSelectorTerms": [{"id": subnet_id} for subnet_id in subnet_ids],
        "securityGroupSelectorTerms": [{"id": security_group_id}],
        "ephemeralStorage": disk,
        # Pods that no policy selects may connect to anything.
        "networkPolicy": "DefaultAllow",
        "tags": dict(tags),
    }


def node_pool_spec(name: str, settings: NodePoolSettings) -> dict[str, Any]:
    """Return the spec of a NodePool: the instances that Karpenter may start, their limits and their disruption.

    https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html
    """
    return {
        "template": {
            **({"metadata": {"labels": settings.labels}} if settings.labels else {}),
            "spec": {
                "nodeClassRef": {"group": "eks.amazonaws.com", "kind": "NodeClass", "name": name},
                "requirements": _requirements(settings),
                **({"taints": taints} if (taints := pool_taints(name, settings)) else {}),
            },
        },
        "limits": {
            "cpu": str(settings.max_cpus),
            "memory": f"{settings.max_memory_gib}Gi",
            **({GPU_RESOURCE: str(settings.max_gpus)} if settings.max_gpus else {}),
        },
        "disruption": {
            "consolidationPolicy": settings.consolidation,
            "consolidateAfter": settings.consolidate_after,
            "budgets": [_budget(budget) for budget in settings.disruption_budgets],
        },
    }


def pool_taints(name: str, settings: NodePoolSettings) -> list[dict[str, str]]:
    """Return the taints of a pool's nodes: only pods that request a GPU, or that name the pool, tolerate them."""
    gpu = [{"key": GPU_RESOURCE, "value": "true", "effect": "NoSchedule"}] if settings.max_gpus else []
    named = [] if name in (CPU_POOL, GPU_POOL) else [{"key": POOL_TAINT, "value": name, "effect": "NoSchedule"}]
    return [*gpu, *named, *(taint.model_dump() for taint in settings.taints)]


def taint_keys(pools: Mapping[str, NodePoolSettings]) -> Mapping[str, list[str]]:
    """Return the keys of the taints of each pool, which the tasks that use it tolerate."""
    return {name: [taint["key"] for taint in pool_taints(name, pool)] for name, pool in pools.items()}


def volume_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the StorageClass parameters that tag volumes.

    https://github.com/kubernetes-sigs/aws-ebs-csi-driver/blob/master/docs/tagging.md
    """
    return {f"tagSpecification_{number}": f"{key}={value}" for number, (key, value) in enumerate(tags.items(), 1)}


def _requirements(settings: NodePoolSettings) -> list[dict[str, Any]]:
    sizes = settings.instance_sizes
    return [
        _one_of("eks.amazonaws.com/instance-family", settings.instance_families),
        *([_one_of("eks.amazonaws.com/instance-size", sizes)] if sizes else []),
        _one_of("kubernetes.io/arch", [settings.architecture]),
        _one_of("karpenter.sh/capacity-type", settings.capacity_types),
    ]


def _one_of(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _budget(budget: DisruptionBudget) -> dict[str, Any]:
    return {name: value for name, value in budget.model_dump(mode="json").items() if value}
