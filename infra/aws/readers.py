"""Read-only access to the cluster without Secrets, such as for the daily drift detection, which runs unattended."""

from collections.abc import Sequence

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

GROUP = "airflow-readers"
RBAC = "rbac.authorization.k8s.io"

# Every kind that the program creates, except Secrets. The view policies of EKS either include Secrets, or leave out
# roles, storage classes, priority classes, node pools and node classes.
KINDS = (
    ("", ("configmaps", "namespaces", "resourcequotas", "serviceaccounts", "services")),
    ("apps", ("deployments", "statefulsets")),
    ("batch", ("cronjobs", "jobs")),
    ("admissionregistration.k8s.io", ("validatingadmissionpolicies", "validatingadmissionpolicybindings")),
    ("eks.amazonaws.com", ("nodeclasses",)),
    ("karpenter.sh", ("nodepools",)),
    ("networking.k8s.aws", ("applicationnetworkpolicies",)),
    ("networking.k8s.io", ("networkpolicies",)),
    ("policy", ("poddisruptionbudgets",)),
    (RBAC, ("clusterroles", "clusterrolebindings", "roles", "rolebindings")),
    ("scheduling.k8s.io", ("priorityclasses",)),
    ("storage.k8s.io", ("storageclasses",)),
)


class Readers(pulumi.ComponentResource):
    """The access of IAM roles that may only read."""

    def __init__(
        self,
        name: str,
        arns: Sequence[str],
        cluster_name: pulumi.Input[str],
        in_cluster: pulumi.ResourceOptions,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Create the access entries and the role with its binding; create nothing without `arns`.

        Args:
            name: The component's name.
            arns: The ARNs of the IAM roles.
            cluster_name: The name of the cluster.
            in_cluster: The options of the resources in Kubernetes.
            opts: The options of the component.
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
