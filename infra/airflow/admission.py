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

from infra import feature_store, mlflow_server
from infra.airflow import values
from infra.airflow.priorities import TASK, class_name
from infra.airflow_names import (
    COMPONENT_LABEL,
    CPU_POOL,
    GPU_RESOURCE,
    NAMESPACE_LABEL,
    POOL_LABEL,
    SERVING_LABELS,
    WORKER,
    tasks_namespace,
)
from infra.airflow_platform import Component, Platform
from infra.dag_declarations import DagDeclaration, ModelServer, account_name, declarations

# The labels by which network policies select servers.
SERVER_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component")
# EKS adds a token for it to pods with a Pod Identity; the Kubernetes API does not accept that token.
POD_IDENTITY_AUDIENCE = "pods.eks.amazonaws.com"
TOKEN = "serviceAccountToken"  # noqa: S105 - the field
VOLUME_TYPES = ("configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
SOURCE_TYPES = ("clusterTrustBundle", "configMap", "downwardAPI", "secret")

# Kubernetes adds these tolerations to every pod:
# https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
DEFAULT_TOLERATIONS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

# The name of what is served, in CEL: the name of the Deployment and of the Service. Fields of objects have no type.
NAME = "string(object.metadata.name)"
# As in dags/ml_common/serving_manifests.py.
SERVER_LABELS_OF_NAME = f'{{"app.kubernetes.io/name": {NAME}, {json.dumps(SERVING_LABELS)[1:]}'
LABEL_WORDS = ", ".join(("app.kubernetes.io/name=<name>", *(f"{key}={value}" for key, value in SERVING_LABELS.items())))


# As in dags/ml_common/serving_manifests.py: the CPU request and the memory limit by size.
SERVER_SIZES = {"small": ("250m", "1536Mi"), "medium": ("500m", "3Gi"), "large": ("1", "6Gi")}


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
        repositories: The repositories of the stack's images.
        object_store_secret: The Secret with the object store's keys; None if there is none.
        dags: What each DAG declares, by its ID.
        node_pools: The keys of the taints of each node pool, by its name; empty where the stack has no node pools.
    """

    namespace: str
    repositories: Sequence[str]
    object_store_secret: str | None
    dags: Mapping[str, DagDeclaration]
    node_pools: Mapping[str, Sequence[str]]

    @property
    def accounts(self) -> list[str]:
        """The service accounts of the DAGs."""
        return [account_name(dag_id) for dag_id in self.dags]

    @property
    def served(self) -> dict[str, str]:
        """The name that each DAG serves under, by its account; DAGs that serve nothing are missing."""
        return {account_name(dag_id): dag.serves.name for dag_id, dag in self.dags.items() if dag.serves}

    @property
    def servers(self) -> list[ModelServer]:
        """The model servers of the DAGs."""
        return [dag.serves for dag in self.dags.values() if dag.serves]

    @property
    def gpus(self) -> dict[str, int]:
        """The number of GPUs of a task, by the account of its DAG."""
        return {account_name(dag_id): dag.gpus for dag_id, dag in self.dags.items()}

    @property
    def task_secrets(self) -> list[str]:
        """The Secrets that tasks may use."""
        store = [self.object_store_secret] if self.object_store_secret else []
        return [mlflow_server.TASKS_SECRET, feature_store.SECRET, *store]


def of_task_pods(limits: Limits) -> Policy:
    """Return the policy for the pods of tasks."""
    return Policy(
        group="",
        kind="pods",
        operations=("CREATE",),
        namespace=tasks_namespace(limits.namespace),
        variables=_pod_variables("object"),
        rules=task_rules(limits, class_name(limits.namespace, TASK)),
    )


def of_model_server(limits: Limits) -> Policy:
    """Return the policy for Deployments that tasks create or change."""
    return Policy(
        group="apps",
        kind="deployments",
        operations=("CREATE", "UPDATE"),
        namespace=limits.namespace,
        variables=_pod_variables("object.spec.template"),
        rules=server_rules(limits),
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
        rules=service_rules(limits),
        requests_of=tasks_namespace(limits.namespace),
    )


# By the end of their names in the cluster, which begin with Airflow's namespace.
POLICIES: Mapping[str, Callable[[Limits], Policy]] = {
    "task-pods": of_task_pods,
    "model-server": of_model_server,
    "model-service": of_model_service,
}


def task_rules(limits: Limits, priority: str) -> tuple[Rule, ...]:
    """Return the rules for the pods of tasks."""
    account = "variables.pod.?serviceAccountName.orValue('')"
    of_dag = "'dag-' + variables.labels[?'dag_id'].orValue('').replace('_', '-')"
    component = f"variables.labels[?{_literal(COMPONENT_LABEL)}].orValue('') == {_literal(WORKER)}"
    default = Component.TASK.service_account
    secrets = limits.task_secrets
    return (
        Rule(
            f"{account} == {_literal(default)} || ({account} in {_literal(limits.accounts)} && {account} == {of_dag})",
            f"a task may only use the service account of its DAG, or {default}",
        ),
        Rule(
            f"{account} in {_literal(list(limits.served))} || ({_no_token()})",
            "only a task of a DAG that declares `serves` in dag.yaml may have a Kubernetes token",
        ),
        Rule(
            _at_most_gpus(account, limits), "a task may only use as many GPUs as its DAG declares as `gpus` in dag.yaml"
        ),
        Rule(_only_secrets(_literal(["", *secrets])), f"a task may only use the Secrets {_words(secrets)}"),
        Rule(_only_volume_types(), f"a task may only mount volumes of the types {_words(VOLUME_TYPES)}"),
        Rule(
            f"variables.pod.?priorityClassName.orValue('') == {_literal(priority)}",
            f"a task must have the PriorityClass {priority}",
        ),
        Rule(
            f"{component} && !{_literal(SERVER_LABELS)}.exists(label, label in variables.labels)",
            f"a task must have the label {COMPONENT_LABEL}={WORKER}, and not {_words(SERVER_LABELS)}",
        ),
        *([_own_pools(limits.node_pools)] if limits.node_pools else []),
    )


def server_rules(limits: Limits) -> tuple[Rule, ...]:
    """Return the rules for the Deployment of a model server."""
    account = Component.SERVING.service_account
    image = " || ".join(f"one.image.startsWith(repository + '{mark}')" for mark in ":@")
    return (
        _named(limits),
        Rule(
            f"variables.pod.?serviceAccountName.orValue('') == {_literal(account)}"
            " && !variables.pod.?automountServiceAccountToken.orValue(false)",
            f"a model server must have the service account {account}, without its token",
        ),
        Rule(
            f"variables.containers.all(one, {_literal(limits.repositories)}.exists(repository, {image}))",
            "a model server may only run the stack's images",
        ),
        Rule(
            _only_secrets(f"['', {NAME} + '-serving', {NAME} + '-passed']"),
            "a model server may only use its own Secrets <name>-serving and <name>-passed",
        ),
        Rule(
            f"{_only_volume_types()} && {_no_token()}",
            f"a model server may only mount volumes of the types {_words(VOLUME_TYPES)}, without tokens",
        ),
        Rule("!has(variables.pod.priorityClassName)", "a model server may not have a PriorityClass"),
        Rule(
            f"variables.labels == {SERVER_LABELS_OF_NAME}",
            f"a model server must have the labels {LABEL_WORDS}, and no others",
        ),
        Rule(
            f"object.spec.?replicas.orValue(1) <= {_of_name({one.name: one.replicas for one in limits.servers}, 1)}",
            "a model server may only have as many replicas as its DAG declares in dag.yaml",
        ),
        Rule(
            _within_size(limits.servers),
            "a model server may only have one container, with at most the CPU and memory of the size that its DAG "
            "declares in dag.yaml",
        ),
    )


def service_rules(limits: Limits) -> tuple[Rule, ...]:
    """Return the rules for the Service of the model server."""
    return (
        _named(limits),
        Rule(
            f"object.spec.?selector.orValue({{}}) == {SERVER_LABELS_OF_NAME}",
            f"the Service of a model server must select the labels {LABEL_WORDS}",
        ),
        Rule(
            "object.spec.?type.orValue('ClusterIP') == 'ClusterIP' && !has(object.spec.externalIPs)",
            "the Service of a model server must be of the type ClusterIP, without external addresses",
        ),
    )


def _named(limits: Limits) -> Rule:
    prefix = f"system:serviceaccount:{tasks_namespace(limits.namespace)}:"
    served = _literal({f"{prefix}{account}": name for account, name in limits.served.items()})
    return Rule(
        f"{served}[?request.userInfo.username].orValue('') == {NAME}",
        "a task may only deploy what its DAG declares as `serves` in dag.yaml",
    )


def _pod_variables(path: str) -> dict[str, str]:
    """Return the variables of the pod, or pod template, at this path of the object."""
    return {
        "pod": f"{path}.spec",
        "labels": f"{path}.metadata.?labels.orValue({{}})",
        "containers": "variables.pod.containers + variables.pod.?initContainers.orValue([])",
        "volumes": "variables.pod.?volumes.orValue([])",
    }


def _only_secrets(allowed: str) -> str:
    """Return the expression that the pod refers to no other Secret; `allowed` is a list in CEL with ''."""
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


def _at_most_gpus(account: str, limits: Limits) -> str:
    """Return the expression that no container has more GPUs than the DAG declares."""
    allowed = f"{_literal(limits.gpus)}[?{account}].orValue(0)"
    asked = f"one.?resources.?limits[?{_literal(GPU_RESOURCE)}].orValue('0')"
    return f"variables.containers.all(one, quantity(string({asked})).asInteger() <= {allowed})"


def _within_size(servers: Sequence[ModelServer]) -> str:
    """Return the expression that the server requests no more CPU, and has a limit of memory that is not higher."""
    cpus, memories = ({one.name: SERVER_SIZES[one.size][part] for one in servers} for part in (0, 1))
    cpu, memory = "one.?resources.?requests.?cpu", "one.?resources.?limits.?memory"
    each = f"{memory}.hasValue() && {_at_most(memory, memories)} && {_at_most(cpu, cpus)}"
    return f"variables.pod.containers.size() == 1 && variables.containers.all(one, {each})"


def _at_most(quantity: str, allowed: Mapping[str, str]) -> str:
    """Return the expression that an optional quantity is at most that of the name of the object."""
    most = _of_name(allowed, "0")
    return f"quantity(string({quantity}.orValue('0'))).compareTo(quantity({most})) <= 0"


def _of_name(values: Mapping[str, object], default: object) -> str:
    """Return the value for the name of the object."""
    return f"{_literal(values)}[?{NAME}].orValue({_literal(default)})"


def _own_pools(pools: Mapping[str, Sequence[str]]) -> Rule:
    """Return the rule that a task uses the stack's node pools, and no nodes that are kept for other pods."""
    pool = f"variables.pod.?nodeSelector[?{_literal(POOL_LABEL)}].orValue({_literal(CPU_POOL)})"
    keys = [*DEFAULT_TOLERATIONS, *sorted({key for taints in pools.values() for key in taints})]
    tolerated = f"variables.pod.?tolerations.orValue([]).all(one, one.?key.orValue('') in {_literal(keys)})"
    return Rule(
        f"{pool} in {_literal(list(pools))} && {tolerated}",
        f"a task may only select the node pools {_words(pools)}, and tolerate only their taints",
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
        images = pulumi.Output.all(*platform.images.values()).apply(
            lambda names: sorted({values.repository(name) for name in names})
        )
        limits = pulumi.Output.all(platform.namespace, images, platform.credentials_secret).apply(
            lambda known: Limits(known[0], known[1], known[2], declarations(), platform.node_pools)
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
