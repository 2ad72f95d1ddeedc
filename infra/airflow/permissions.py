"""Airflow's RBAC roles: narrower than the chart's, which let every task and every trigger create pods."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgs, RoleRefArgs, SubjectArgs

from infra.airflow_platform import Component, Platform
from infra.dag_declarations import ModelServer, account_name, declarations
from infra.mlflow_server import passed_secret

# The chart creates the service accounts of the other components, and infra/mlflow_server.py that of MLflow.
OWN_ACCOUNTS = (Component.TASK, Component.SERVING)


@dataclass(frozen=True)
class Rule:
    """The verbs allowed on some resources of a namespace, or only on those with these names."""

    group: str
    kinds: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()


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


def rules_for_serving(server: ModelServer) -> tuple[Rule, ...]:
    """Return what dags/ml_common/kubernetes_rollout.py needs in Airflow's namespace to serve.

    Server-side apply creates an object by its name, so creating can be limited to the name, too; listing cannot.
    """
    # Kubernetes answers with the whole Secret, which has only what the task passes: see infra/airflow/secrets.py.
    secrets = [Rule("", ("secrets",), ("patch",), (passed_secret(server.name),))] if server.takes_secrets else []
    return (
        Rule("apps", ("deployments",), ("create", "get", "patch"), (server.name,)),
        Rule("", ("services",), ("create", "get", "patch"), (server.name,)),
        Rule("apps", ("replicasets",), ("list",)),
        Rule("", ("pods",), ("list",)),
        *secrets,
    )


class Permissions(pulumi.ComponentResource):
    """All roles, and the service accounts that the chart does not create."""

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create the service accounts, the roles and their bindings."""
        super().__init__("airflow:airflow:Permissions", name, opts=opts)
        self._child_opts = pulumi.ResourceOptions(parent=self)
        self._platform = platform

        for component in OWN_ACCOUNTS:
            self._create_account(component.service_account, self._namespace_of(component))
        for component, rules in IN_TASKS_NAMESPACE.items():
            self._create_role(component.service_account, rules, platform.tasks_namespace, self._namespace_of(component))
        for dag_id, declaration in declarations().items():
            account = account_name(dag_id)
            self._create_account(account, platform.tasks_namespace)
            if declaration.serves:
                rules = rules_for_serving(declaration.serves)
                self._create_role(account, rules, platform.namespace, platform.tasks_namespace)

        self.register_outputs({})

    def _namespace_of(self, component: Component) -> pulumi.Output[str]:
        return component.namespace(self._platform.namespace, self._platform.tasks_namespace)

    def _create_account(self, name: str, namespace: pulumi.Output[str]) -> None:
        ServiceAccount(
            name,
            metadata=ObjectMetaArgs(name=name, namespace=namespace),
            automount_service_account_token=False,
            opts=self._child_opts,
        )

    def _create_role(
        self,
        name: str,
        rules: tuple[Rule, ...],
        namespace: pulumi.Output[str],
        accounts_namespace: pulumi.Output[str],
    ) -> None:
        metadata = ObjectMetaArgs(name=name, namespace=namespace)
        role = kubernetes.rbac.v1.Role(
            name,
            metadata=metadata,
            rules=[
                PolicyRuleArgs(
                    api_groups=[rule.group],
                    resources=[*rule.kinds],
                    verbs=[*rule.verbs],
                    resource_names=[*rule.names] or None,
                )
                for rule in rules
            ],
            opts=self._child_opts,
        )
        kubernetes.rbac.v1.RoleBinding(
            name,
            metadata=metadata,
            role_ref=RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name),
            subjects=[SubjectArgs(kind="ServiceAccount", name=name, namespace=accounts_namespace)],
            opts=self._child_opts,
        )
