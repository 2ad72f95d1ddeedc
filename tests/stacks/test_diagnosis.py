from typing import Any

import pytest

from ops.kubernetes.diagnosis import Diagnosis, Namespace

REPOSITORY = "git@example.com:ml/dags.git"
DIAGNOSIS = Diagnosis("dev", REPOSITORY, "main")


def pod(name: str = "it", *, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"containers": []},
        "status": {"phase": "Pending", **status},
    }


def container(
    name: str = "base", *, image: str = "example.com/x:1", restarts: int = 0, **states: Any
) -> dict[str, Any]:
    return {"name": name, "image": image, "restartCount": restarts, **states}


def waiting(reason: str, message: str = "", **other: Any) -> dict[str, Any]:
    return container(state={"waiting": {"reason": reason, "message": message}}, **other)


def looping(name: str = "base", code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return container(
        name,
        restarts=3,
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": code, "reason": reason}},
    )


def event(thing: dict[str, Any], reason: str, message: str, kind: str = "Pod") -> dict[str, Any]:
    metadata = thing["metadata"]
    involved = {"kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return {"reason": reason, "message": message, "involvedObject": involved}


def sentences(namespace: Namespace, log: str = "") -> list[str]:
    return [str(problem) for problem in DIAGNOSIS.problems(namespace, lambda _pod, _container: log)]


def only(namespace: Namespace, log: str = "") -> str:
    [sentence] = sentences(namespace, log)
    return sentence


HEALTHY = [
    pod(phase="Running", containerStatuses=[container(state={"running": {}})]),
    pod(phase="Succeeded", containerStatuses=[container(state={"terminated": {"exitCode": 0}})]),
    pod(containerStatuses=[waiting("ContainerCreating")]),
    pod(initContainerStatuses=[waiting("PodInitializing")]),
    # One that started at its second attempt, and one that is about to.
    pod(
        phase="Running",
        containerStatuses=[
            container(restarts=1, state={"running": {}}, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
        ],
    ),
    pod(containerStatuses=[container(restarts=1, state={"terminated": {"exitCode": 1, "reason": "Error"}})]),
    # One that started after many attempts.
    pod(
        phase="Running",
        containerStatuses=[
            container(restarts=9, state={"running": {}}, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
        ],
    ),
]


@pytest.mark.parametrize("healthy", HEALTHY)
def test_a_running_or_starting_pod_is_no_problem(healthy: dict[str, Any]) -> None:
    assert sentences(Namespace(pods=[healthy])) == []


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
@pytest.mark.parametrize(
    "image",
    ["localhost/airflow-on-kubernetes/airflow:abc", "123456789012.dkr.ecr.us-east-1.amazonaws.com/airflow-dev/ml:abc"],
)
def test_a_missing_own_image_is_shown_with_the_build_command(image: str, reason: str) -> None:
    sentence = only(Namespace(pods=[pod("it", initContainerStatuses=[waiting(reason, "no such host", image=image)])]))
    assert sentence == f"pod it: the image {image} does not exist: run `make images STACK=dev`"


def test_an_image_that_the_stacks_registry_lacks_is_shown_with_the_build_command() -> None:
    diagnosis = Diagnosis("dev", REPOSITORY, "main", registry="registry.example/ml")

    def told(image: str, message: str) -> str:
        broken = pod("it", containerStatuses=[waiting("ErrImagePull", message, image=image)])
        [problem] = diagnosis.problems(Namespace(pods=[broken]), lambda *_: "")
        return problem.sentence

    own, absent = "registry.example/ml/airflow:1", "rpc error: failed to resolve reference: not found"
    assert told(own, absent) == f"the image {own} does not exist: run `make images STACK=dev`"
    assert told(own, "rpc error: 401 Unauthorized").startswith(f"the image {own} cannot be pulled (401 Unauthorized)")
    assert told("registry.example/mlops/x:1", absent).startswith(
        "the image registry.example/mlops/x:1 cannot be pulled"
    )


def test_a_failed_pull_of_a_foreign_image_is_shown_with_the_last_cause() -> None:
    message = 'failed to pull "quay.io/x:1": failed to do request: dial tcp 1.2.3.4:443: i/o timeout'
    sentence = only(Namespace(pods=[pod(containerStatuses=[waiting("ErrImagePull", message, image="quay.io/x:1")])]))
    assert sentence == (
        "pod it: the image quay.io/x:1 cannot be pulled (i/o timeout): check that the nodes can reach its registry"
    )


GIT_LOGS = [
    ("fatal: couldn't find remote ref main", f"{REPOSITORY} has no branch main: push it"),
    ("fatal: Remote branch main not found in upstream origin", f"{REPOSITORY} has no branch main: push it"),
    ("No ED25519 host key is known for example.com", f"the host key of {REPOSITORY} does not match known_hosts"),
    ("Host key verification failed.", f"the host key of {REPOSITORY} does not match known_hosts"),
    ("git@example.com: Permission denied (publickey).", f"{REPOSITORY} does not accept the SSH key"),
    ('Load key "/etc/git-secret/ssh": invalid format', f"{REPOSITORY} does not accept the SSH key"),
    ("remote: HTTP Basic: Access denied", f"{REPOSITORY} does not accept the token"),
    ("fatal: Authentication failed for 'https://example.com/'", f"{REPOSITORY} does not accept the token"),
    ("fatal: could not read Username for 'https://example.com'", f"{REPOSITORY} does not accept the token"),
    ("remote: Repository not found.", f"the repository {REPOSITORY} does not exist"),
    ("ssh: Could not resolve hostname example.com", f"the cluster cannot reach {REPOSITORY}"),
    ("fatal: unable to connect to git.example.com", f"the cluster cannot reach {REPOSITORY}"),
]


def test_a_first_checkout_that_keeps_failing_is_a_problem() -> None:
    trying = pod(initContainerStatuses=[container("git-sync-init", state={"running": {}})])
    told = only(Namespace([trying]), "git@example.com: Permission denied (publickey).")
    assert f"{REPOSITORY} does not accept the SSH key" in told
    assert sentences(Namespace([trying]), "cloning") == []


def test_an_old_error_of_a_git_sync_that_runs_is_no_problem() -> None:
    running = pod(phase="Running", containerStatuses=[container("git-sync", state={"running": {}})])
    assert sentences(Namespace([running]), "fatal: unable to connect to git.example.com") == []


@pytest.mark.parametrize("name", ["git-sync", "git-sync-init"])
@pytest.mark.parametrize(("log", "meaning"), GIT_LOGS)
def test_git_messages_are_explained(log: str, meaning: str, name: str) -> None:
    sentence = only(Namespace(pods=[pod(initContainerStatuses=[looping(name)])]), f"starting\n{log}\nexit\n")
    assert sentence.startswith(f"pod it: {meaning}")


def test_git_messages_of_other_containers_are_not_explained() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping("base")])]), "Permission denied\n")
    assert sentence == "pod it: base keeps failing with exit code 1: Permission denied"


@pytest.mark.parametrize("log", ["initdb: error: No space left on device", "OSError: [Errno 122] Disk quota exceeded"])
def test_a_full_volume_is_explained(log: str) -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping("postgres")])]), log)
    assert sentence.startswith("pod it: postgres has no space left on its volume: delete what is not needed")


def test_a_crash_loop_is_shown_with_its_last_log_line() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping(code=3)])]), "one\nValueError: two\n\n")
    assert sentence == "pod it: base keeps failing with exit code 3: ValueError: two"


def test_an_exceeded_memory_limit_is_explained() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping(code=137, reason="OOMKilled")])]))
    assert sentence == "pod it: base exceeded its memory limit: raise the limit in helm-values"


def test_a_failed_migration_is_explained() -> None:
    labels = {"component": "run-airflow-migrations"}
    sentence = only(Namespace(pods=[pod(labels=labels, containerStatuses=[looping()])]), "no such revision: abc")
    assert sentence == "pod it: the database migration failed: no such revision: abc"


def unschedulable(message: str) -> dict[str, Any]:
    return pod(conditions=[{"type": "PodScheduled", "reason": "Unschedulable", "message": message}])


def test_a_full_node_and_a_missing_volume_are_different_problems() -> None:
    assert only(Namespace(pods=[unschedulable("0/1 nodes are available: 1 Insufficient cpu.")])) == (
        "pod it: no node can run it (0/1 nodes are available: 1 Insufficient cpu): add a node, or lower the requests "
        "in helm-values"
    )
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    assert only(Namespace(pods=[unschedulable(message)])).startswith("pod it: its volume is not bound yet (")


def test_pods_may_wait_for_a_new_node() -> None:
    existing, starting = Diagnosis("local", "git://x", "local"), Diagnosis("dev", REPOSITORY, "dev", node_seconds=300)
    namespace = Namespace(pods=[unschedulable("0/1 nodes are available: 1 Insufficient cpu.")])
    grace_seconds = [
        one.problems(namespace, lambda _pod, _container: "")[0].grace_seconds for one in (existing, starting)
    ]
    assert grace_seconds == [45, 345]


def test_a_claim_without_a_usable_class_shows_how_to_set_one() -> None:
    claim = {"metadata": {"name": "data", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}}
    failed = event(claim, "FailedBinding", "no persistent volumes available and no storage class is set")
    sentence = only(Namespace(claims=[claim], events=[failed]))
    assert sentence.startswith(
        "volume data: it cannot be provisioned (no persistent volumes available and no storage class"
    )
    assert sentence.endswith("set airflow:storage_class in Pulumi.dev.yaml to one of `kubectl get storageclass`")
    assert sentences(Namespace(claims=[{**claim, "status": {"phase": "Bound"}}], events=[failed])) == []


@pytest.mark.parametrize(
    "message",
    [
        'MountVolume.SetUp failed for volume "git-sync-ssh-key" : secret "dags-git" not found',
        'MountVolume.SetUp failed for volume "git-sync-ssh-key" : references non-existent secret key: gitSshKey',
    ],
)
def test_a_missing_key_is_shown_with_the_command_that_stores_it(message: str) -> None:
    it = pod(containerStatuses=[waiting("ContainerCreating")])
    assert only(Namespace(pods=[it], events=[event(it, "FailedMount", message)])) == (
        f"pod it: the key for {REPOSITORY} is missing: run `make dags-key STACK=dev`"
    )


def test_a_pod_that_cannot_start_is_shown_with_the_events_message() -> None:
    it = pod()
    failed = event(it, "FailedCreatePodSandBox", 'failed to get sandbox image "pause": not found.')
    assert only(Namespace(pods=[it], events=[failed])) == (
        'pod it: it cannot start: failed to get sandbox image "pause": not found'
    )


def test_events_of_a_pod_that_runs_or_of_another_are_past() -> None:
    it, other = pod(phase="Running"), pod("other")
    assert (
        sentences(Namespace(pods=[it], events=[event(it, "FailedMount", "x"), event(other, "FailedMount", "x")])) == []
    )


def test_pods_that_cannot_be_created_are_shown_with_their_controller() -> None:
    owner = {"metadata": {"name": "api", "uid": "o"}}
    refused = event(owner, "FailedCreate", 'Error creating: pods "api-1" is forbidden: exceeded quota', "ReplicaSet")
    assert only(Namespace(events=[refused])) == (
        'ReplicaSet api: its pods cannot be created: pods "api-1" is forbidden: exceeded quota'
    )
    made = pod(phase="Running")
    made["metadata"]["ownerReferences"] = [{"uid": "o"}]
    assert sentences(Namespace(pods=[made], events=[refused])) == []


def test_an_evicted_pod_is_shown_with_the_reason() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    assert only(Namespace(pods=[evicted])) == (
        "pod it: its node ran out of resources (The node was low on resource: ephemeral-storage): add a node"
    )
