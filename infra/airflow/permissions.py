"""Airflow's RBAC roles: narrower than the chart's, which let every task and every trigger create pods."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs, RoleRefArgs, SubjectArgs

from infra.airflow_platform import Component, Platform

# The chart creates the service accounts of the other components, and infra/mlflow_server.py that of MLflow.
OWN_ACCOUNTS = (Component.TASK, Component.DEPLOY, Component.SERVING)


@dataclass(frozen=True)
class Rule:
    """The verbs allowed on some resources of a namespace."""

    group: str
    kinds: tuple[str, ...]
    verbs: tuple[str, ...]


Rules = dict[Component, tuple[Rule, ...]]

# What Airflow may do in the namespace of tasks.
IN_TASKS_NAMESPACE: Rules = {
    # https://airflow.apache.org/docs/apache-airflow-providers-cncf-kubernetes/stable/kubernetes_executor.html
    Component.SCHEDULER: (
        Rule("", ("pods",), ("create", "get", "list", "watch", "patch", "delete")),
        Rule("", ("pods/log",), ("get",)),
        Rule("", ("events",), ("list",)),
    ),
    # Logs of running tasks are read from their pods; logs of finished tasks are read from the object store.
    Component.API_SERVER: (
        Rule("", ("pods",), ("get", "list")),
        Rule("", ("pods/log",), ("get",)),
    ),
}
# What tasks may do in Airflow's namespace, within the limits of infra/airflow/admission.py.
IN_AIRFLOWS_NAMESPACE: Rules = {
    # dags/ml_common/kubernetes_rollout.py
    Component.DEPLOY: (
        Rule("apps", ("deployments",), ("create", "get", "patch")),
        Rule("apps", ("replicasets",), ("list",)),
        Rule("", ("services",), ("create", "get", "patch")),
        Rule("", ("pods",), ("list",)),
    ),
}


class Permissions(pulumi.ComponentResource):
    """All roles, and the service accounts that the chart does not create."""

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the service accounts, the roles and their bindings."""
        super().__init__("airflow:airflow:Permissions", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._platform = platform

        for component in OWN_ACCOUNTS:
            self._create_account(component)
        for namespace, roles in (
            (platform.tasks_namespace, IN_TASKS_NAMESPACE),
            (platform.namespace, IN_AIRFLOWS_NAMESPACE),
        ):
            for component, rules in roles.items():
                self._create_role(component, rules, namespace)

        self.register_outputs({})

    def _namespace_of(self, component: Component) -> pulumi.Output[str]:
        return component.namespace(self._platform.namespace, self._platform.tasks_namespace)

    def _create_account(self, component: Component) -> None:
        ServiceAccount(
            component.service_account,
            metadata=ObjectMetaArgs(name=component.service_account, namespace=self._namespace_of(component)),
            automount_service_account_token=False,
            opts=self._child_opts,
        )

    def _create_role(self, component: Component, rules: tuple[Rule, ...], namespace: pulumi.Output[str]) -> None:
        name = component.service_account
        metadata = ObjectMetaArgs(name=name, namespace=namespace)
        role = kubernetes.rbac.v1.Role(
            name,
            metadata=metadata,
            rules=[
                PolicyRuleArgs(api_groups=[rule.group], resources=[*rule.kinds], verbs=[*rule.verbs]) for rule in rules
            ],
            opts=self._child_opts,
        )
        kubernetes.rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref=RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name),
            subjects=[SubjectArgs(kind="ServiceAccount", name=name, namespace=self._namespace_of(component))],
            opts=self._child_opts,
        )
