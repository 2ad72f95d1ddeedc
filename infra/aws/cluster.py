"""The EKS cluster in Auto Mode: AWS runs its nodes, volumes and load balancers."""

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

from infra.aws.account import Account
from infra.aws.kubeconfig import kubeconfig
from infra.aws.names import Limit
from infra.aws.network import Network
from infra.aws.policies import Statement, document, trust
from infra.settings import ClusterSettings

# The policies that Auto Mode requires: https://docs.aws.amazon.com/eks/latest/userguide/auto-cluster-iam-role.html
MANAGED_POLICIES = (
    "AmazonEKSClusterPolicy",
    "AmazonEKSComputePolicy",
    "AmazonEKSBlockStoragePolicy",
    "AmazonEKSLoadBalancingPolicy",
    "AmazonEKSNetworkingPolicy",
)

# EKS requires two zones for the network interfaces of the control plane, and refuses to change them later. Nodes may be
# in other zones, too: https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
CONTROL_PLANE_ZONES = 2

ADMIN_POLICY = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


class Cluster(pulumi.ComponentResource):
    """The cluster and its administrators.

    Attributes:
        name: The cluster's name.
        security_group_id: The security group of the control plane and of all nodes and pods.
        kubeconfig: The configuration for `kubectl`; it contains no credentials and gets tokens from the AWS CLI.
        provider: The Kubernetes provider; it depends on the administrators' access entries.
    """

    name: pulumi.Output[str]
    arn: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    provider: kubernetes.Provider

    def __init__(
        self,
        name: str,
        settings: ClusterSettings,
        account: Account,
        network: Network,
        key_arn: pulumi.Input[str],
        deploy_role_arn: str | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the cluster; `key_arn` encrypts its Secrets and logs."""
        super().__init__("airflow:aws:Cluster", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._settings = settings
        self._account = account
        self._physical_name = account.names.of("cluster", Limit.CLUSTER)

        permissions = self._create_role(key_arn)
        log_group = self._create_log_group(key_arn)
        self._cluster = self._create_cluster(network, key_arn, [*permissions, log_group])
        access = self._create_access(administrators(settings.admin_arns, deploy_role_arn))

        self.name = self._cluster.name
        self.arn = self._cluster.arn
        self.security_group_id = self._cluster.vpc_config.cluster_security_group_id.apply(str)
        self.kubeconfig = pulumi.Output.all(
            self._cluster.arn, self._cluster.name, self._cluster.endpoint, self._cluster.certificate_authority.data
        ).apply(lambda known: kubeconfig(known[0], known[1], known[2], str(known[3]), account.region, deploy_role_arn))
        self.provider = self._create_provider(access)
        self.register_outputs({"name": self.name, "kubeconfig": self.kubeconfig})

    def _create_role(self, key_arn: pulumi.Input[str]) -> list[pulumi.Resource]:
        self._role = aws.iam.Role(
            "cluster-role",
            name=self._account.names.of("cluster", Limit.ROLE),
            assume_role_policy=trust("eks.amazonaws.com", "sts:AssumeRole", "sts:TagSession"),
            permissions_boundary=self._account.permissions_boundary,
            opts=self._child_opts,
        )
        attachments: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                f"cluster-role-{policy}",
                role=self._role.name,
                policy_arn=f"arn:aws:iam::aws:policy/{policy}",
                opts=self._child_opts,
            )
            for policy in MANAGED_POLICIES
        ]
        key_policy = aws.iam.RolePolicy(
            "cluster-role-key",
            name="key",
            role=self._role.name,
            policy=pulumi.Output.from_input(key_arn).apply(secrets_key_policy),
            opts=self._child_opts,
        )
        tag_policy = aws.iam.RolePolicy(
            "cluster-role-tags",
            name="tags",
            role=self._role.name,
            policy=self._account.id.apply(lambda account: tagging_policy(self._account.region, account)),
            opts=self._child_opts,
        )
        return [*attachments, key_policy, tag_policy]

    def _create_log_group(self, key_arn: pulumi.Input[str]) -> aws.cloudwatch.LogGroup:
        # Otherwise EKS creates it, with unlimited retention and without the key.
        return aws.cloudwatch.LogGroup(
            "cluster-log-group",
            name=f"/aws/eks/{self._physical_name}/cluster",
            retention_in_days=self._settings.log_days,
            kms_key_id=key_arn,
            opts=self._child_opts,
        )

    def _create_cluster(
        self,
        network: Network,
        key_arn: pulumi.Input[str],
        prerequisites: Sequence[pulumi.Resource],
    ) -> aws.eks.Cluster:
        settings = self._settings
        return aws.eks.Cluster(
            "cluster",
            name=self._physical_name,
            version=settings.kubernetes_version,
            role_arn=self._role.arn,
            vpc_config=aws.eks.ClusterVpcConfigArgs(
                subnet_ids=network.private_subnet_ids[:CONTROL_PLANE_ZONES],
                endpoint_private_access=True,
                endpoint_public_access=bool(settings.public_access_cidrs),
                public_access_cidrs=[str(cidr) for cidr in settings.public_access_cidrs] or None,
            ),
            access_config=aws.eks.ClusterAccessConfigArgs(
                authentication_mode="API",
                bootstrap_cluster_creator_admin_permissions=not settings.admin_arns,
            ),
            # Auto Mode requires these three; its nodes include DNS, networking and Pod Identity.
            compute_config=aws.eks.ClusterComputeConfigArgs(enabled=True),
            storage_config=aws.eks.ClusterStorageConfigArgs(
                block_storage=aws.eks.ClusterStorageConfigBlockStorageArgs(enabled=True)
            ),
            kubernetes_network_config=aws.eks.ClusterKubernetesNetworkConfigArgs(
                service_ipv4_cidr=str(settings.service_cidr),
                elastic_load_balancing=aws.eks.ClusterKubernetesNetworkConfigElasticLoadBalancingArgs(enabled=True),
            ),
            bootstrap_self_managed_addons=False,
            encryption_config=aws.eks.ClusterEncryptionConfigArgs(
                provider=aws.eks.ClusterEncryptionConfigProviderArgs(key_arn=key_arn), resources=["secrets"]
            ),
            enabled_cluster_log_types=list(settings.log_types),
            # Otherwise an old version enters extended support, which costs six times as much.
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            deletion_protection=self._account.protect,
            opts=pulumi.ResourceOptions.merge(
                self._child_opts,
                pulumi.ResourceOptions(
                    # Nodes need the network's routes as long as they run, not only its subnets.
                    depends_on=[network, *prerequisites],
                    protect=self._account.protect,
                    # Applies only at creation, and adding administrators later must not replace the cluster.
                    ignore_changes=["accessConfig.bootstrapClusterCreatorAdminPermissions", "vpcConfig.subnetIds"],
                ),
            ),
        )

    def _create_access(self, principals: Sequence[str]) -> list[pulumi.Resource]:
        associations: list[pulumi.Resource] = []
        for principal in principals:
            name = principal.rpartition(":")[2].replace("/", "-")
            entry = aws.eks.AccessEntry(
                f"admin-{name}",
                cluster_name=self._cluster.name,
                principal_arn=principal,
                type="STANDARD",
                opts=self._child_opts,
            )
            associations.append(
                aws.eks.AccessPolicyAssociation(
                    f"admin-{name}-policy",
                    cluster_name=self._cluster.name,
                    principal_arn=entry.principal_arn,
                    policy_arn=ADMIN_POLICY,
                    access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
                    opts=self._child_opts,
                )
            )
        return associations

    def _create_provider(self, access: Sequence[pulumi.Resource]) -> kubernetes.Provider:
        return kubernetes.Provider(
            "kubernetes",
            kubeconfig=self.kubeconfig,
            cluster_identifier=self._cluster.arn,
            opts=pulumi.ResourceOptions.merge(self._child_opts, pulumi.ResourceOptions(depends_on=access)),
        )


def administrators(admin_arns: Sequence[str], deploy_role_arn: str | None) -> list[str]:
    """Return the ARNs that get an access entry: the administrators in the settings, and the deployment role.

    Without administrators in the settings, EKS creates an entry for the identity that creates the cluster.
    """
    if not admin_arns:
        return []
    return sorted({*admin_arns, *([deploy_role_arn] if deploy_role_arn else [])})


def secrets_key_policy(key_arn: str) -> str:
    """Return the policy for EKS to use the key that encrypts Kubernetes Secrets."""
    return document(Statement(("kms:Encrypt", "kms:Decrypt", "kms:ListGrants", "kms:DescribeKey"), (key_arn,)))


def tagging_policy(region: str, account: str) -> str:
    """Return the policy for Auto Mode to set the stack's tags, which its managed policies do not allow.

    Resources that are being created have no ID yet, so conditions restrict the policy to nodes and volumes of this
    cluster.

    https://docs.aws.amazon.com/eks/latest/userguide/auto-learn-iam.html#tag-prop
    """

    def new(*kinds: str) -> list[str]:
        return [f"arn:aws:ec2:{region}:{account}:{kind}/*" for kind in kinds]

    own_cluster = {"aws:RequestTag/eks:eks-cluster-name": "${aws:PrincipalTag/eks:eks-cluster-name}"}
    own_nodes = {
        "aws:RequestTag/eks:kubernetes-node-class-name": "*",
        "aws:RequestTag/eks:kubernetes-node-pool-name": "*",
    }
    return document(
        Statement(
            ("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateLaunchTemplate"),
            new("fleet", "instance", "launch-template", "network-interface", "spot-instances-request", "volume"),
            conditions={"StringEquals": own_cluster, "StringLike": own_nodes},
        ),
        Statement(("ec2:CreateVolume",), new("volume"), conditions={"StringEquals": own_cluster}),
        Statement(
            ("ec2:CreateNetworkInterface",),
            new("network-interface"),
            conditions={
                "StringEquals": own_cluster,
                "StringLike": {"aws:RequestTag/eks:kubernetes-cni-node-name": "*"},
            },
        ),
    )
