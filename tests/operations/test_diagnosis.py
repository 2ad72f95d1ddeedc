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
    # One that came up on its second attempt, and one that is about to.
    pod(
        phase="Running",
        containerStatuses=[
            container(restarts=1, state={"running": {}}, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
        ],
    ),
    pod(containerStatuses=[container(restarts=1, state={"terminated": {"exitCode": 1, "reason": "Error"}})]),
    # One that has come up after many.
    pod(
        phase="Running",
        containerStatuses=[
            container(restarts=9, state={"running": {}}, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
        ],
    ),
]


@pytest.mark.parametrize("healthy", HEALTHY)
def test_a_pod_that_is_well_or_on_its_way_is_no_problem(healthy: dict[str, Any]) -> None:
    assert sentences(Namespace(pods=[healthy])) == []


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"])
@pytest.mark.parametrize(
    "image",
    ["localhost/airflow-on-kubernetes/airflow:abc", "123456789012.dkr.ecr.us-east-1.amazonaws.com/airflow-dev/ml:abc"],
)
def test_an_image_of_our_own_that_is_missing_is_to_be_built(image: str, reason: str) -> None:
    sentence = only(Namespace(pods=[pod("it", initContainerStatuses=[waiting(reason, "no such host", image=image)])]))
    assert sentence == f"pod it: the image {image} is not there: run `make images STACK=dev`"


def test_an_image_that_the_stacks_registry_does_not_have_is_to_be_brought_there() -> None:
    diagnosis = Diagnosis("dev", REPOSITORY, "main", registry="registry.example/ml")

    def told(image: str, message: str) -> str:
        broken = pod("it", containerStatuses=[waiting("ErrImagePull", message, image=image)])
        [problem] = diagnosis.problems(Namespace(pods=[broken]), lambda *_: "")
        return problem.sentence

    own, absent = "registry.example/ml/airflow:1", "rpc error: failed to resolve reference: not found"
    assert told(own, absent) == f"the image {own} is not there: run `make images STACK=dev`"
    assert told(own, "rpc error: 401 Unauthorized").startswith(f"the image {own} cannot be pulled (401 Unauthorized)")
    assert told("registry.example/mlops/x:1", absent).startswith(
        "the image registry.example/mlops/x:1 cannot be pulled"
    )


def test_an_image_of_somebody_elses_is_named_with_the_last_cause() -> None:
    message = 'failed to pull "quay.io/x:1": failed to do request: dial tcp 1.2.3.4:443: i/o timeout'
    sentence = only(Namespace(pods=[pod(containerStatuses=[waiting("ErrImagePull", message, image="quay.io/x:1")])]))
    assert sentence == (
        "pod it: the image quay.io/x:1 cannot be pulled (i/o timeout): see that the nodes reach its registry"
    )


GIT_LOGS = [
    ("fatal: couldn't find remote ref main", f"the branch main is not in {REPOSITORY}: push it"),
    ("fatal: Remote branch main not found in upstream origin", f"the branch main is not in {REPOSITORY}: push it"),
    ("No ED25519 host key is known for example.com", f"the server of {REPOSITORY} has another host key"),
    ("Host key verification failed.", f"the server of {REPOSITORY} has another host key"),
    ("git@example.com: Permission denied (publickey).", f"{REPOSITORY} does not accept the SSH key"),
    ('Load key "/etc/git-secret/ssh": invalid format', f"{REPOSITORY} does not accept the SSH key"),
    ("remote: HTTP Basic: Access denied", f"{REPOSITORY} does not accept the token"),
    ("fatal: Authentication failed for 'https://example.com/'", f"{REPOSITORY} does not accept the token"),
    ("fatal: could not read Username for 'https://example.com'", f"{REPOSITORY} does not accept the token"),
    ("remote: Repository not found.", f"there is no repository {REPOSITORY}"),
    ("ssh: Could not resolve hostname example.com", f"the cluster does not reach {REPOSITORY}"),
    ("fatal: unable to connect to git.example.com", f"the cluster does not reach {REPOSITORY}"),
]


def test_a_first_checkout_that_is_tried_again_and_again_is_told() -> None:
    trying = pod(initContainerStatuses=[container("git-sync-init", state={"running": {}})])
    told = only(Namespace([trying]), "git@example.com: Permission denied (publickey).")
    assert f"{REPOSITORY} does not accept the SSH key" in told
    assert sentences(Namespace([trying]), "cloning") == []


def test_an_old_error_of_a_git_sync_that_runs_is_no_problem() -> None:
    running = pod(phase="Running", containerStatuses=[container("git-sync", state={"running": {}})])
    assert sentences(Namespace([running]), "fatal: unable to connect to git.example.com") == []


@pytest.mark.parametrize("name", ["git-sync", "git-sync-init"])
@pytest.mark.parametrize(("log", "meaning"), GIT_LOGS)
def test_what_git_says_is_told_as_what_to_do(log: str, meaning: str, name: str) -> None:
    sentence = only(Namespace(pods=[pod(initContainerStatuses=[looping(name)])]), f"starting\n{log}\nexit\n")
    assert sentence.startswith(f"pod it: {meaning}")


def test_other_containers_may_say_the_same_and_mean_something_else() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping("base")])]), "Permission denied\n")
    assert sentence == "pod it: base ends with code 1 again and again: Permission denied"


@pytest.mark.parametrize("log", ["initdb: error: No space left on device", "OSError: [Errno 122] Disk quota exceeded"])
def test_a_full_volume_is_called_so(log: str) -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping("postgres")])]), log)
    assert sentence.startswith("pod it: postgres has no space left on its volume: delete what is not needed")


def test_a_crash_loop_is_told_with_its_last_words() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping(code=3)])]), "one\nValueError: two\n\n")
    assert sentence == "pod it: base ends with code 3 again and again: ValueError: two"


def test_too_little_memory_is_called_so() -> None:
    sentence = only(Namespace(pods=[pod(containerStatuses=[looping(code=137, reason="OOMKilled")])]))
    assert sentence == "pod it: base needs more memory than its limit: raise it in helm-values"


def test_a_failed_migration_is_called_so() -> None:
    labels = {"component": "run-airflow-migrations"}
    sentence = only(Namespace(pods=[pod(labels=labels, containerStatuses=[looping()])]), "no such revision: abc")
    assert sentence == "pod it: the database could not be brought up to date: no such revision: abc"


def unschedulable(message: str) -> dict[str, Any]:
    return pod(conditions=[{"type": "PodScheduled", "reason": "Unschedulable", "message": message}])


def test_no_room_and_no_volume_are_two_things() -> None:
    assert only(Namespace(pods=[unschedulable("0/1 nodes are available: 1 Insufficient cpu.")])) == (
        "pod it: no node has room for it (0/1 nodes are available: 1 Insufficient cpu): add a node, or ask for less in "
        "helm-values"
    )
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    assert only(Namespace(pods=[unschedulable(message)])).startswith("pod it: its volume is not there yet (")


def test_pods_may_wait_for_a_node_that_is_started_for_them() -> None:
    there, starting = Diagnosis("local", "git://x", "local"), Diagnosis("dev", REPOSITORY, "dev", node_seconds=300)
    namespace = Namespace(pods=[unschedulable("0/1 nodes are available: 1 Insufficient cpu.")])
    patience = [one.problems(namespace, lambda _pod, _container: "")[0].patience for one in (there, starting)]
    assert patience == [45, 345]


def test_a_claim_that_no_class_serves_is_told_where_to_name_one() -> None:
    claim = {"metadata": {"name": "data", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}}
    failed = event(claim, "FailedBinding", "no persistent volumes available and no storage class is set")
    sentence = only(Namespace(claims=[claim], events=[failed]))
    assert sentence.startswith(
        "volume data: the cluster makes none (no persistent volumes available and no storage class"
    )
    assert sentence.endswith("as airflow:storage_class in Pulumi.dev.yaml")
    assert sentences(Namespace(claims=[{**claim, "status": {"phase": "Bound"}}], events=[failed])) == []


@pytest.mark.parametrize(
    "message",
    [
        'MountVolume.SetUp failed for volume "git-sync-ssh-key" : secret "dags-git" not found',
        'MountVolume.SetUp failed for volume "git-sync-ssh-key" : references non-existent secret key: gitSshKey',
    ],
)
def test_a_key_that_is_not_there_yet_is_to_be_put_there(message: str) -> None:
    it = pod(containerStatuses=[waiting("ContainerCreating")])
    assert only(Namespace(pods=[it], events=[event(it, "FailedMount", message)])) == (
        f"pod it: there is no key for {REPOSITORY} yet: run `make dags-key STACK=dev`"
    )


def test_a_node_that_starts_nothing_is_told_in_its_own_words() -> None:
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


def test_pods_that_may_not_be_made_are_told_by_who_wants_them() -> None:
    owner = {"metadata": {"name": "api", "uid": "o"}}
    refused = event(owner, "FailedCreate", 'Error creating: pods "api-1" is forbidden: exceeded quota', "ReplicaSet")
    assert only(Namespace(events=[refused])) == (
        'ReplicaSet api: no pod may be made: pods "api-1" is forbidden: exceeded quota'
    )
    made = pod(phase="Running")
    made["metadata"]["ownerReferences"] = [{"uid": "o"}]
    assert sentences(Namespace(pods=[made], events=[refused])) == []


def test_an_evicted_pod_is_told_why() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")
    assert only(Namespace(pods=[evicted])) == (
        "pod it: its node had no room left (The node was low on resource: ephemeral-storage)"
    )
