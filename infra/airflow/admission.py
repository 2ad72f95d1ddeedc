"""What the code of DAGs may make of pods, Deployments and Services: rules that the API server enforces.

A DAG's author chooses the pods of its tasks (`pod_override`) and, with an account that may deploy, objects in Airflow's
namespace. https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.admissionregistration.v1 import (
    NamedRuleWithOperationsArgsDict,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpecArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import mlflow_server
from infra.airflow import values
from infra.airflow.permissions import IN_AIRFLOWS_NAMESPACE, OWN_ACCOUNTS
from infra.airflow.priorities import TASK, class_name
from infra.airflow_names import (
    COMPONENT_LABEL,
    DAGS_SECRET,
    NAMESPACE_LABEL,
    SERVING,
    SERVING_LABELS,
    SERVING_SECRET,
    WORKER,
    tasks_namespace,
)
from infra.airflow_platform import TASK_COMPONENTS, Component, Platform

# The labels by which network policies select servers.
SERVER_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component")
# As in dags/ml_common/serving_manifests.py.
MODEL_SERVER_LABELS = {"app.kubernetes.io/name": SERVING, **SERVING_LABELS}
# EKS adds a token for it to pods with a Pod Identity; the Kubernetes API does not accept that token.
POD_IDENTITY_AUDIENCE = "pods.eks.amazonaws.com"
TOKEN = "serviceAccountToken"  # noqa: S105 - the field
VOLUME_TYPES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
SOURCE_TYPES = ("clusterTrustBundle", "configMap", "downwardAPI", "secret")

TASK_ACCOUNTS = tuple(each.service_account for each in OWN_ACCOUNTS if each in TASK_COMPONENTS)
ACCOUNTS_WITH_TOKEN = tuple(each.service_account for each in IN_AIRFLOWS_NAMESPACE)


@dataclass(frozen=True)
class Rule:
    """An expression in CEL that must be true, and the sentence for who is refused."""

    expression: str
    message: str


@dataclass(frozen=True)
class Policy:
    """Rules for objects of one kind.

    Attributes:
        group: The API group of the kind.
        kind: The kind, in the plural.
        operations: The requests that are checked.
        namespace: The namespace of the objects.
        variables: Expressions that the rules use.
        rules: The rules.
        requests_of: The namespace whose service accounts are checked; None to check all requests.
    """

    group: str
    kind: str
    operations: tuple[str, ...]
    namespace: str
    variables: Mapping[str, str]
    rules: tuple[Rule, ...]
    requests_of: str | None = None

    @property
    def spec(self) -> ValidatingAdmissionPolicySpecArgsDict:
        """The spec of the ValidatingAdmissionPolicy."""
        resources: NamedRuleWithOperationsArgsDict = {
            "api_groups": [self.group],
            "api_versions": ["v1"],
            "operations": list(self.operations),
            "resources": [self.kind],
        }
        spec: ValidatingAdmissionPolicySpecArgsDict = {
            "failure_policy": "Fail",
            "match_constraints": {"resource_rules": [resources]},
            "validations": [
                {"expression": rule.expression, "message": rule.message, "reason": "Forbidden"} for rule in self.rules
            ],
        }
        if self.variables:
            spec["variables"] = [{"name": name, "expression": text} for name, text in self.variables.items()]
        if self.requests_of:
            user = _literal(f"system:serviceaccount:{self.requests_of}:")
            spec["match_conditions"] = [
                {"name": "of-tasks", "expression": f"request.userInfo.username.startsWith({user})"}
            ]
        return spec


@dataclass(frozen=True)
class Limits:
    """What the rules depend on.

    Attributes:
        namespace: Airflow's namespace.
        serving_repository: The repository of the model server's image.
        object_store_secret: The Secret with the object store's keys; None if there is none.
    """

    namespace: str
    serving_repository: str
    object_store_secret: str | None

    @property
    def task_secrets(self) -> list[str]:
        """The Secrets that tasks may use."""
        store = [self.object_store_secret] if self.object_store_secret else []
        return [mlflow_server.TASKS_SECRET, DAGS_SECRET, *store]


def of_task_pods(limits: Limits) -> Policy:
    """Return the policy for the pods of tasks."""
    return Policy(
        group="",
        kind="pods",
        operations=("CREATE",),
        namespace=tasks_namespace(limits.namespace),
        variables=_pod_variables("object"),
        rules=task_rules(limits.task_secrets, class_name(limits.namespace, TASK)),
    )


def of_model_server(limits: Limits) -> Policy:
    """Return the policy for Deployments that tasks create or change."""
    return Policy(
        group="apps",
        kind="deployments",
        operations=("CREATE", "UPDATE"),
        namespace=limits.namespace,
        variables=_pod_variables("object.spec.template"),
        rules=server_rules(limits.serving_repository),
        requests_of=tasks_namespace(limits.namespace),
    )


def of_model_service(limits: Limits) -> Policy:
    """Return the policy for Services that tasks create or change."""
    return Policy(
        group="",
        kind="services",
        operations=("CREATE", "UPDATE"),
        namespace=limits.namespace,
        variables={},
        rules=service_rules(),
        requests_of=tasks_namespace(limits.namespace),
    )


# By the end of their names in the cluster, which begin with Airflow's namespace.
POLICIES: Mapping[str, Callable[[Limits], Policy]] = {
    "task-pods": of_task_pods,
    "model-server": of_model_server,
    "model-service": of_model_service,
}


def task_rules(secrets: Sequence[str], priority: str) -> tuple[Rule, ...]:
    """Return the rules for the pods of tasks."""
    account = "variables.pod.?serviceAccountName.orValue('')"
    component = f"variables.labels[?{_literal(COMPONENT_LABEL)}].orValue('') == {_literal(WORKER)}"
    return (
        Rule(
            f"{account} in {_literal(TASK_ACCOUNTS)}",
            f"a task may only use the service accounts {_words(TASK_ACCOUNTS)}",
        ),
        Rule(
            f"{account} in {_literal(ACCOUNTS_WITH_TOKEN)} || ({_no_token()})",
            f"only a task with the service account {_words(ACCOUNTS_WITH_TOKEN)} may have a Kubernetes token",
        ),
        Rule(_only_secrets(secrets), f"a task may only use the Secrets {_words(secrets)}"),
        Rule(_only_volume_types(), f"a task may only mount volumes of the types {_words(VOLUME_TYPES)}"),
        Rule(
            f"variables.pod.?priorityClassName.orValue('') == {_literal(priority)}",
            f"a task must have the PriorityClass {priority}",
        ),
        Rule(
            f"{component} && !{_literal(SERVER_LABELS)}.exists(label, label in variables.labels)",
            f"a task must have the label {COMPONENT_LABEL}={WORKER}, and not {_words(SERVER_LABELS)}",
        ),
    )


def server_rules(repository: str) -> tuple[Rule, ...]:
    """Return the rules for the Deployment of the model server."""
    account = Component.SERVING.service_account
    image = " || ".join(f"one.image.startsWith({_literal(repository + mark)})" for mark in ":@")
    return (
        _named(),
        Rule(
            f"variables.pod.?serviceAccountName.orValue('') == {_literal(account)}"
            " && !variables.pod.?automountServiceAccountToken.orValue(false)",
            f"a model server must have the service account {account}, without its token",
        ),
        Rule(
            f"variables.containers.all(one, {image})",
            f"a model server may only run images of the repository {repository}",
        ),
        Rule(_only_secrets([SERVING_SECRET]), f"a model server may only use the Secret {SERVING_SECRET}"),
        Rule(
            f"{_only_volume_types()} && {_no_token()}",
            f"a model server may only mount volumes of the types {_words(VOLUME_TYPES)}, without tokens",
        ),
        Rule("!has(variables.pod.priorityClassName)", "a model server may not have a PriorityClass"),
        Rule(
            f"variables.labels == {_literal(MODEL_SERVER_LABELS)}",
            f"a model server must have the labels {_label_words()}, and no others",
        ),
    )


def service_rules() -> tuple[Rule, ...]:
    """Return the rules for the Service of the model server."""
    return (
        _named(),
        Rule(
            f"object.spec.?selector.orValue({{}}) == {_literal(MODEL_SERVER_LABELS)}",
            f"the Service of a model server must select the labels {_label_words()}",
        ),
        Rule(
            "object.spec.?type.orValue('ClusterIP') == 'ClusterIP' && !has(object.spec.externalIPs)",
            "the Service of a model server must be of the type ClusterIP, without external addresses",
        ),
    )


def _named() -> Rule:
    return Rule(f"object.metadata.name == {_literal(SERVING)}", f"a task may only deploy {SERVING}")


def _label_words() -> str:
    return _words(f"{name}={value}" for name, value in MODEL_SERVER_LABELS.items())


def _pod_variables(path: str) -> dict[str, str]:
    """Return the variables of the pod, or pod template, at this path of the object."""
    return {
        "pod": f"{path}.spec",
        "labels": f"{path}.metadata.?labels.orValue({{}})",
        "containers": "variables.pod.containers + variables.pod.?initContainers.orValue([])",
        "volumes": "variables.pod.?volumes.orValue([])",
    }


def _only_secrets(names: Sequence[str]) -> str:
    """Return the expression that the pod refers to no other Secret."""
    allowed = _literal(["", *names])
    of_variables = f"one.?env.orValue([]).all(each, each.?valueFrom.?secretKeyRef.?name.orValue('') in {allowed})"
    of_groups = f"one.?envFrom.orValue([]).all(each, each.?secretRef.?name.orValue('') in {allowed})"
    of_volume = f"one.?secret.?secretName.orValue('') in {allowed}"
    of_sources = f"one.?projected.?sources.orValue([]).all(each, each.?secret.?name.orValue('') in {allowed})"
    to_pull = f"variables.pod.?imagePullSecrets.orValue([]).all(each, each.?name.orValue('') in {allowed})"
    return (
        f"variables.containers.all(one, {of_variables} && {of_groups})"
        f" && variables.volumes.all(one, {of_volume} && {of_sources})"
        f" && {to_pull}"
    )


def _only_volume_types() -> str:
    """Return the expression that every volume, and every source of a projected one, has a known type."""
    known = " || ".join(f"has(one.{kind})" for kind in VOLUME_TYPES)
    known_source = " || ".join(f"has(each.{kind})" for kind in (*SOURCE_TYPES, TOKEN))
    of_sources = f"one.?projected.?sources.orValue([]).all(each, {known_source})"
    return f"variables.volumes.all(one, ({known}) && {of_sources})"


def _no_token() -> str:
    """Return the expression that the pod has no token that the Kubernetes API accepts."""
    audience = f"each.?{TOKEN}.?audience.orValue('') == {_literal(POD_IDENTITY_AUDIENCE)}"
    return (
        f"variables.volumes.all(one, one.?projected.?sources.orValue([]).all(each, !has(each.{TOKEN}) || {audience}))"
    )


def _literal(value: object) -> str:
    """Return a value in CEL, whose strings, lists and maps are written as in JSON."""
    return json.dumps(value)


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)


class Admission(pulumi.ComponentResource):
    """The policies and their bindings."""

    def __init__(self, name: str, platform: Platform, opts: pulumi.ResourceOptions | None = None) -> None:
        """Create them."""
        super().__init__("airflow:airflow:Admission", name, opts=opts)
        child_opts = pulumi.ResourceOptions(parent=self)
        repository = platform.images["serving"].apply(values.repository)
        limits = pulumi.Output.all(platform.namespace, repository, platform.credentials_secret).apply(
            lambda known: Limits(*known)
        )
        for kind, policy_of in POLICIES.items():
            policy = limits.apply(policy_of)
            metadata = ObjectMetaArgs(name=pulumi.Output.format("{0}-{1}", platform.namespace, kind))
            created = ValidatingAdmissionPolicy(
                kind, metadata=metadata, spec=policy.apply(lambda one: one.spec), opts=child_opts
            )
            namespace = policy.apply(lambda one: one.namespace)
            ValidatingAdmissionPolicyBinding(
                kind,
                metadata=metadata,
                spec={
                    "policy_name": created.metadata.name,
                    "validation_actions": ["Deny"],
                    "match_resources": {"namespace_selector": {"match_labels": {NAMESPACE_LABEL: namespace}}},
                },
                opts=child_opts,
            )
        self.register_outputs({})
