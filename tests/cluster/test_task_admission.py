"""What the code of a DAG cannot make of its pods and of the model server, and what refuses it."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from ml_common.serving_manifests import ServingSettings, manifests
from ops.plan.manifests import Object, objects
from ops.plan.recording import record

from .stack import FIRST, STACK, apply, kubectl, project, wait_until

NAMESPACE = "guarded"
TASKS = f"{NAMESPACE}-tasks"
SCHEDULER = f"system:serviceaccount:{NAMESPACE}:airflow-scheduler"
CLASSIFIER = f"system:serviceaccount:{TASKS}:dag-image-classifier"
# What the policies depend on; nothing runs.
KINDS = (
    *(*FIRST, "ServiceAccount", "Role", "RoleBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
)

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def stack_objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Object]]:
    """Return the objects of the stack; those that the policies depend on are in the cluster."""
    found = objects(record(STACK, project(tmp_path_factory.mktemp("project"), {"namespace": NAMESPACE}), reveal=True))
    ours = [item for item in found if item["kind"] in KINDS and "platform" not in json.dumps(item["metadata"])]
    apply(item for item in ours if item["kind"] in FIRST)
    try:
        apply(item for item in ours if item["kind"] not in FIRST)
        for account in [item for item in ours if item["kind"] == "ServiceAccount"]:
            assert account["metadata"]["namespace"] in (NAMESPACE, TASKS)
        wait_until(lambda: enforced(task_of(found)), "the policies", 60)
        yield found
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=yaml.safe_dump_all(ours))


def enforced(pod: Any) -> bool:
    """Return whether the policies of all kinds refuse what they must."""
    pod["metadata"]["labels"]["component"] = "scheduler"
    service, deployment = server("x")
    service["spec"]["type"] = "LoadBalancer"
    requests = [(pod, SCHEDULER), (service, CLASSIFIER), (deployment, CLASSIFIER)]
    try:
        for item, user in requests:
            with pytest.raises(AssertionError, match="ValidatingAdmissionPolicy"):
                create(item, user)
    except pytest.fail.Exception:
        return False
    return True


def create(item: Any, *user: str) -> None:
    """Create an object as a user, by default the administrator, without keeping it.

    A task applies objects on the server's side: the name is then in the address, which RBAC can limit.
    """
    how = ("apply", "--server-side") if user == (CLASSIFIER,) else ("create",)
    kubectl(*how, "--dry-run=server", *(f"--as={one}" for one in user), "-f", "-", stdin=json.dumps(item))


def task_of(found: list[Object]) -> Any:
    """Return the pod of a task that asks for nothing."""
    [settings] = [item for item in found if item["metadata"]["name"] == "airflow-config"]
    pod = yaml.safe_load(settings["data"]["pod_template_file.yaml"])
    pod["metadata"] |= {"name": "task", "namespace": TASKS}
    pod["metadata"]["labels"]["dag_id"] = "image_classifier"
    return pod


@pytest.fixture
def task(stack_objects: list[Object]) -> Any:
    return task_of(stack_objects)


def server(image: str, account: str = "serving") -> list[Any]:
    """Return the Service and the Deployment that a task deploys."""
    return deepcopy(manifests(ServingSettings("image-classifier", NAMESPACE, image, account), "1"))


@pytest.fixture
def service(stack_objects: list[Object]) -> Any:
    return server("localhost/serving:1")[0]


@pytest.fixture
def deployment(task: Any) -> Any:
    variables = {variable["name"]: variable.get("value") for variable in task["spec"]["containers"][0]["env"]}
    return server(variables["SERVING_IMAGE"])[1]


def with_volume(**volume: Any) -> Change:
    return lambda pod: pod["spec"]["volumes"].append({"name": "added", **volume})


def with_token(**token: Any) -> Change:
    return with_volume(projected={"sources": [{"serviceAccountToken": {"path": "token", **token}}]})


def variable(secret: str) -> Object:
    return {"name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "connection"}}}


def with_variable(secret: str) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["env"].append(variable(secret))


def with_init_container(secret: str) -> Change:
    def change(pod: Any) -> None:
        [container] = pod["spec"]["containers"]
        pod["spec"]["initContainers"] = [{**container, "name": "first", "env": [variable(secret)]}]

    return change


def with_group(secret: str) -> Change:
    return lambda pod: pod["spec"]["containers"][0].update(envFrom=[{"secretRef": {"name": secret}}])


def with_spec(**fields: Any) -> Change:
    return lambda pod: pod["spec"].update(fields)


def with_label(name: str, value: str) -> Change:
    return lambda pod: pod["metadata"]["labels"].update({name: value})


def with_gpus(number: int) -> Change:
    return lambda pod: pod["spec"]["containers"][0]["resources"]["limits"].update({"nvidia.com/gpu": number})


def of_classifier(change: Change) -> Change:
    def both(pod: Any) -> None:
        pod["spec"]["serviceAccountName"] = "dag-image-classifier"
        change(pod)

    return both


SECRETS = "a task may only use the Secrets mlflow-tasks, features-database, object-store"
ACCOUNTS = "a task may only use the service account of its DAG, or airflow-task"
TOKENS = "only a task of a DAG that declares `serves` in dag.yaml may have a Kubernetes token"
GPUS = "a task may only use as many GPUs as its DAG declares as `gpus` in dag.yaml"
SERVER_SECRETS = "a model server may only use its own Secrets <name>-serving and <name>-passed"
LABELS = "a task must have the label component=worker"
SIZE = "a model server may only have one container, with at most the CPU and memory of the size that its DAG declares"
POD_SECURITY = "violates PodSecurity"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param(with_spec(serviceAccountName="default"), ACCOUNTS, id="the default account"),
        pytest.param(with_spec(serviceAccountName="dag-smoke-test"), ACCOUNTS, id="the account of another DAG"),
        pytest.param(
            with_label("dag_id", "churn"), None, id="the account of every DAG, for a DAG that is not deployed"
        ),
        *(
            pytest.param(with_spec(serviceAccountName=account), f'serviceaccount "{account}" not found', id=account)
            for account in ("airflow-scheduler", "airflow-api-server", "airflow-triggerer", "mlflow", "serving")
        ),
        *(
            pytest.param(change(secret), SECRETS, id=f"{secret} as {how}")
            for secret in ("airflow-database", "airflow-fernet", "airflow-admin")
            for how, change in (
                ("a variable", with_variable),
                ("a variable of an init container", with_init_container),
                ("a group of variables", with_group),
                ("a volume", lambda name: with_volume(secret={"secretName": name})),
                ("a projected volume", lambda name: with_volume(projected={"sources": [{"secret": {"name": name}}]})),
                ("a pull secret", lambda name: with_spec(imagePullSecrets=[{"name": name}])),
            )
        ),
        pytest.param(with_volume(hostPath={"path": "/"}), POD_SECURITY, id="a folder of the node"),
        pytest.param(with_spec(hostNetwork=True), POD_SECURITY, id="the network of the node"),
        pytest.param(
            with_volume(csi={"driver": "example.com", "nodePublishSecretRef": {"name": "airflow-database"}}),
            "a task may only mount volumes of the types",
            id="a volume of a driver",
        ),
        pytest.param(with_spec(automountServiceAccountToken=True), TOKENS, id="the token of its account"),
        pytest.param(with_token(), TOKENS, id="a projected token"),
        pytest.param(with_token(audience="vault"), TOKENS, id="a projected token for a server"),
        pytest.param(
            with_spec(priorityClassName=f"{NAMESPACE}-control-plane"),
            f"a task must have the PriorityClass {NAMESPACE}-task",
            id="the priority of the control plane",
        ),
        pytest.param(with_gpus(1), GPUS, id="a GPU, for a DAG that is not deployed"),
        pytest.param(of_classifier(with_gpus(2)), GPUS, id="more GPUs than its DAG declares"),
        pytest.param(of_classifier(with_gpus(1)), None, id="the GPU that its DAG declares"),
        pytest.param(with_label("component", "scheduler"), LABELS, id="the label of the scheduler"),
        pytest.param(with_label("team", "vision"), None, id="another label"),
        pytest.param(with_label("app.kubernetes.io/name", "mlflow"), LABELS, id="the label of MLflow"),
        pytest.param(with_label("app.kubernetes.io/component", "serving"), LABELS, id="the label of the server"),
        pytest.param(with_spec(), None, id="nothing"),
        pytest.param(with_volume(secret={"secretName": "dags-git"}), SECRETS, id="the key of the DAGs"),
        pytest.param(with_group("features-database"), None, id="the connection to the feature store"),
        pytest.param(with_group("mlflow-database"), SECRETS, id="the connection of MLflow's server"),
        pytest.param(with_token(audience="pods.eks.amazonaws.com"), None, id="the token for its identity on AWS"),
        pytest.param(
            with_spec(serviceAccountName="dag-image-classifier", automountServiceAccountToken=True),
            None,
            id="the account of its DAG, with its token",
        ),
    ],
)
def test_a_task_that_asks_for(task: Any, change: Change, refusal: str | None) -> None:
    change(task)
    judge(task, SCHEDULER, refusal)


def judge(item: Any, user: str, refusal: str | None) -> None:
    """Check that the object is refused with this text, or taken if there is none."""
    if refusal is None:
        create(item, user)
        return
    with pytest.raises(AssertionError) as refused:
        create(item, user)
    assert refusal in str(refused.value)


@pytest.mark.parametrize("namespace", [NAMESPACE, "default", "kube-system"])
def test_the_scheduler_cannot_create_pods_in_another_namespace(task: Any, namespace: str) -> None:
    task["metadata"]["namespace"] = namespace
    judge(task, SCHEDULER, f'cannot create resource "pods" in API group "" in the namespace "{namespace}"')


def of_pod(change: Change) -> Change:
    return lambda item: change(item["spec"]["template"])


def of_server(change: Change) -> Change:
    return lambda item: change(item["spec"]["template"]["spec"]["containers"][0])


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param(lambda item: item["metadata"].update(name="mlflow"), "cannot patch resource", id="a name"),
        pytest.param(
            of_pod(with_spec(serviceAccountName="airflow-scheduler")),
            "a model server must have the service account serving",
            id="the scheduler's account",
        ),
        pytest.param(
            of_pod(with_spec(automountServiceAccountToken=True)),
            "a model server must have the service account serving, without its token",
            id="a token",
        ),
        pytest.param(
            of_pod(lambda pod: pod["spec"]["containers"][0].update(image="docker.io/library/python:3.12")),
            "a model server may only run the stack's images",
            id="another image",
        ),
        pytest.param(
            of_pod(lambda pod: pod["spec"].update(initContainers=[{"name": "x", "image": "localhost/serving-2:1"}])),
            "a model server may only run the stack's images",
            id="another image in an init container",
        ),
        *(
            pytest.param(
                of_pod(change),
                SERVER_SECRETS,
                id=f"a Secret as {how}",
            )
            for how, change in (
                ("a variable", with_variable("airflow-database")),
                ("a group of variables", with_group("airflow-database")),
                ("a volume", with_volume(secret={"secretName": "airflow-database"})),
            )
        ),
        *(
            pytest.param(of_pod(change), "a model server may only mount volumes of the types", id=what)
            for what, change in (
                ("a folder of the node", with_volume(hostPath={"path": "/"})),
                ("a projected token", with_token()),
            )
        ),
        pytest.param(
            of_pod(with_spec(priorityClassName=f"{NAMESPACE}-control-plane")),
            "a model server may not have a PriorityClass",
            id="the priority of the control plane",
        ),
        pytest.param(
            of_pod(with_label("component", "scheduler")),
            "a model server must have the labels",
            id="the scheduler's label",
        ),
        pytest.param(
            lambda item: item["spec"].update(replicas=2),
            "a model server may only have as many replicas as its DAG declares in dag.yaml",
            id="two replicas",
        ),
        *(
            pytest.param(of_server(change), SIZE, id=what)
            for what, change in (
                ("more memory", lambda server: server["resources"]["limits"].update(memory="2Gi")),
                ("unlimited memory", lambda server: server["resources"]["limits"].pop("memory")),
                ("more CPU", lambda server: server["resources"]["requests"].update(cpu="2")),
            )
        ),
        pytest.param(
            of_pod(lambda pod: pod["spec"]["containers"].append({**pod["spec"]["containers"][0], "name": "second"})),
            SIZE,
            id="two containers",
        ),
        pytest.param(of_server(lambda server: server["resources"]["requests"].pop("cpu")), None, id="less CPU"),
        pytest.param(of_pod(with_group("image-classifier-passed")), None, id="the Secret that its task passes"),
        pytest.param(
            of_pod(with_group("docs-answers-passed")),
            SERVER_SECRETS,
            id="the Secret that another task passes",
        ),
    ],
)
def test_a_model_server_with(deployment: Any, change: Change, refusal: str | None) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0].setdefault("env", [])
    change(deployment)
    judge(deployment, CLASSIFIER, refusal)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        pytest.param(lambda item: item["metadata"].update(name="mlflow"), "cannot patch resource", id="a name"),
        pytest.param(
            lambda item: item["spec"].update(selector={"component": "api-server"}),
            "the Service of a model server must select the labels",
            id="the api-server's pods",
        ),
        pytest.param(
            lambda item: item["spec"].update(type="LoadBalancer"),
            "the Service of a model server must be of the type ClusterIP",
            id="an address outside the cluster",
        ),
        pytest.param(
            lambda item: item["spec"].update(externalIPs=["203.0.113.1"]),
            "the Service of a model server must be of the type ClusterIP",
            id="the address of another server",
        ),
        pytest.param(lambda item: item["spec"].update(type="ClusterIP"), None, id="an address in the cluster"),
    ],
)
def test_a_service_with(service: Any, change: Change, refusal: str | None) -> None:
    change(service)
    judge(service, CLASSIFIER, refusal)


def test_a_task_cannot_deploy_in_another_namespace(deployment: Any) -> None:
    deployment["metadata"]["namespace"] = TASKS
    judge(deployment, CLASSIFIER, f'cannot patch resource "deployments" in API group "apps" in the namespace "{TASKS}"')


def test_the_administrator_deploys_anything(deployment: Any) -> None:
    deployment["metadata"]["name"] = "other"
    create(deployment)
