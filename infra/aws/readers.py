"""Who may look at the cluster without reading its Secrets: what finds drift every day, and nobody approves."""

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

GROUP = "airflow-readers"
RBAC = "rbac.authorization.k8s.io"

# Every kind that the program makes but Secrets. EKS' own policies for viewers either show those, or leave out roles,
# storage classes, priorities and what nodes are made of.
KINDS = (
    ("", ("configmaps", "namespaces", "resourcequotas", "serviceaccounts", "services")),
    ("apps", ("deployments", "statefulsets")),
    ("batch", ("cronjobs", "jobs")),
    ("admissionregistration.k8s.io", ("validatingadmissionpolicies", "validatingadmissionpolicybindings")),
    ("eks.amazonaws.com", ("nodeclasses",)),
    ("karpenter.sh", ("nodepools",)),
    ("networking.k8s.io", ("networkpolicies",)),
    ("policy", ("poddisruptionbudgets",)),
    (RBAC, ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    ("scheduling.k8s.io", ("priorityclasses",)),
    ("storage.k8s.io", ("storageclasses",)),
)


class Readers(pulumi.ComponentResource):
    """The access of IAM roles that only look."""

    def __init__(
        self,
        name: str,
        arns: Sequence[str],
        cluster_name: pulumi.Input[str],
        in_cluster: pulumi.ResourceOptions,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Let the roles in, and say what they may see; where there are none, nothing is made.

        Args:
            name: The component's name.
            arns: The roles.
            cluster_name: The cluster.
            in_cluster: Options of what is made in Kubernetes.
            opts: Options of the component.
        """
        super().__init__("airflow:aws:Readers", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)
        for arn in arns:
            aws.eks.AccessEntry(
                f"reader-{arn.rpartition(':')[2].replace('/', '-')}",
                cluster_name=cluster_name,
                principal_arn=arn,
                kubernetes_groups=[GROUP],
                type="STANDARD",
                opts=child_opts,
            )
        if arns:
            self._create_role(pulumi.ResourceOptions.merge(child_opts, in_cluster))
        self.register_outputs({})

    def _create_role(self, opts: pulumi.ResourceOptions) -> None:
        kubernetes.rbac.v1.ClusterRole(
            "readers-role",
            metadata={"name": GROUP},
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(
                    api_groups=[group], resources=list(kinds), verbs=["get", "list", "watch"]
                )
                for group, kinds in KINDS
            ],
            opts=opts,
        )
        kubernetes.rbac.v1.ClusterRoleBinding(
            "readers-role-binding",
            metadata={"name": GROUP},
            role_ref=kubernetes.rbac.v1.RoleRefArgs(api_group=RBAC, kind="ClusterRole", name=GROUP),
            subjects=[kubernetes.rbac.v1.SubjectArgs(api_group=RBAC, kind="Group", name=GROUP)],
            opts=opts,
        )
