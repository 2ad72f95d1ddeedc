"""Explain what is wrong with pods and what to do, from the status of pods and claims and from events.

Objects are dictionaries in the JSON format of the Kubernetes API.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.airflow_names import DAGS_SECRET
from infra.images.content import ON_NODES

Object = Mapping[str, Any]
# Returns the last log lines of a container, given the names of the pod and the container.
Log = Callable[[str, str], str]

# Reasons of waiting containers: https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ErrImageInspect")
# Reasons of events of pods whose containers the node cannot start.
START_REASONS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
# Failures below this count are not a problem: most containers fail until the servers they need are up.
HARMLESS_RESTARTS = 2

# Container and component names from the Helm chart.
GIT_SYNC_FIRST = "git-sync-init"
GIT_SYNC = ("git-sync", GIT_SYNC_FIRST)
MIGRATION = "run-airflow-migrations"

CONTROLLERS = ("ReplicaSet", "StatefulSet", "Job")

# How long each kind of problem may last before it counts: images, volumes and nodes take time.
IMAGE_SECONDS = 20
CRASH_SECONDS = 0
START_SECONDS = 30
ROOM_SECONDS = 45

# Messages of git and ssh, with the explanation to show.
GIT_PROBLEMS = (
    (
        re.compile(r"(couldn't|could not) find remote ref|remote branch .* not found|unknown revision", re.IGNORECASE),
        "{repository} has no branch {branch}: push it, or correct airflow:dags in the stack file",
    ),
    (
        re.compile(r"host key verification failed|no .* host key is known", re.IGNORECASE),
        "the host key of {repository} does not match known_hosts in the stack file: compare both",
    ),
    (
        re.compile(r"permission denied|invalid format|error in libcrypto", re.IGNORECASE),
        "{repository} does not accept the SSH key: store one with read access with `make dags-key`",
    ),
    (
        re.compile(
            r"authentication failed|could not read (username|password)|access denied|terminal prompts disabled",
            re.IGNORECASE,
        ),
        "{repository} does not accept the token: store one with read access with `make dags-key`",
    ),
    (
        re.compile(r"repository .*not found|not appear to be a git repository", re.IGNORECASE),
        "the repository {repository} does not exist, or the key cannot read it: correct airflow:dags in the stack file",
    ),
    (
        re.compile(r"could not resolve host|unable to (connect|look up)|connection (refused|timed out)", re.IGNORECASE),
        "the cluster cannot reach {repository}: check its address in the stack file, and the network",
    ),
)
# Messages of container runtimes when the registry responds but does not have the image.
NOT_FOUND = re.compile(r"\b(not found|manifest unknown|name unknown)\b", re.IGNORECASE)
VOLUME_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """A problem of one object.

    Attributes:
        subject: The object, such as `pod airflow-scheduler-0`.
        sentence: What is wrong, and what to do.
        grace_seconds: How long the problem may last before it counts.
    """

    subject: str
    sentence: str
    grace_seconds: int

    def __str__(self) -> str:
        """Return the subject and the sentence."""
        return f"{self.subject}: {self.sentence}"


@dataclass(frozen=True)
class Namespace:
    """The pods, claims and events of a namespace."""

    pods: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    events: Sequence[Object] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Finds the problems of one stack.

    Attributes:
        stack: The stack.
        repository: The repository of its DAGs.
        branch: The branch that it follows.
        node_seconds: How long pods may wait for a new node.
        registry: The registry of its images; None if they are in ECR or loaded onto the nodes.
    """

    stack: str
    repository: str
    branch: str
    node_seconds: int = 0
    registry: str | None = None

    def problems(self, namespace: Namespace, log: Log) -> list[Problem]:
        """Return the problems in a namespace; an empty list if everything runs or is starting."""
        found: list[Problem] = []
        for pod in namespace.pods:
            events = _events_of(namespace.events, pod)
            found += self._of_pod(pod, events, log)
        for claim in namespace.claims:
            found += self._of_claim(claim, _events_of(namespace.events, claim))
        found += self._of_controllers(namespace)
        return found

    def _of_pod(self, pod: Object, events: Sequence[Object], log: Log) -> Iterator[Problem]:
        name, status = _name(pod), pod.get("status", {})
        if status.get("reason") == "Evicted":
            yield Problem(
                f"pod {name}",
                f"its node ran out of resources ({_sentence(status.get('message', ''))}): add a node",
                0,
            )
            return
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                yield self._unschedulable(name, condition.get("message", ""))
                return
        problems = [
            problem
            for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
            if (problem := self._of_container(pod, container, log))
        ]
        yield from problems
        if not problems and status.get("phase") == "Pending":
            yield from self._of_start(name, events)

    def _unschedulable(self, pod: str, message: str) -> Problem:
        if "unbound immediate PersistentVolumeClaims" in message or "persistentvolumeclaim" in message:
            sentence = f"its volume is not bound yet ({_sentence(message)}): see `kubectl get pvc,storageclass`"
        else:
            sentence = f"no node can run it ({_sentence(message)}): add a node, or lower the requests in helm-values"
        return Problem(f"pod {pod}", sentence, ROOM_SECONDS + self.node_seconds)

    def _of_container(self, pod: Object, container: Object, log: Log) -> Problem | None:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS:
            sentence = self.image_problem(container["image"], waiting.get("message", ""))
            return Problem(f"pod {_name(pod)}", sentence, IMAGE_SECONDS)
        if waiting.get("reason") == "CreateContainerConfigError":
            sentence = self._of_missing_object(waiting.get("message", ""))
            return Problem(f"pod {_name(pod)}", sentence, START_SECONDS)
        if container["name"] == GIT_SYNC_FIRST and "running" in container.get("state", {}):
            return self._of_first_checkout(pod, log)
        ended = _failure(container)
        if ended is None:
            return None
        text = log(_name(pod), container["name"])
        return Problem(f"pod {_name(pod)}", self._of_failure(pod, container["name"], ended, text), CRASH_SECONDS)

    def _of_first_checkout(self, pod: Object, log: Log) -> Problem | None:
        """Return why git-sync's first checkout fails: git-sync retries forever and never exits with an error."""
        problem = self.git_problem(log(_name(pod), GIT_SYNC_FIRST))
        return Problem(f"pod {_name(pod)}", problem, START_SECONDS) if problem else None

    def _of_failure(self, pod: Object, container: str, ended: Object, text: str) -> str:
        if container in GIT_SYNC and (problem := self.git_problem(text)):
            return problem
        if VOLUME_FULL.search(text):
            return f"{container} has no space left on its volume: delete what is not needed, or enlarge the volume"
        if ended.get("reason") == "OOMKilled":
            return f"{container} exceeded its memory limit: raise the limit in helm-values"
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it logged nothing")
        if pod.get("metadata", {}).get("labels", {}).get("component") == MIGRATION:
            return f"the database migration failed: {last}"
        return f"{container} keeps failing with exit code {ended.get('exitCode')}: {last}"

    def git_problem(self, log: str) -> str | None:
        """Explain git-sync's log; return None if it matches no known problem."""
        for pattern, sentence in GIT_PROBLEMS:
            if pattern.search(log):
                return sentence.format(branch=self.branch, repository=self.repository)
        return None

    def image_problem(self, image: str, message: str) -> str:
        """Explain an image pull failure."""
        own = self.registry is not None and image.startswith(f"{self.registry}/")
        if image.startswith(ON_NODES) or ".dkr.ecr." in image or (own and NOT_FOUND.search(message)):
            return f"the image {image} does not exist: run `make images STACK={self.stack}`"
        detail = _sentence(message.rsplit(": ", maxsplit=1)[-1]) or "no reason was given"
        return f"the image {image} cannot be pulled ({detail}): check that the nodes can reach its registry"

    def _of_start(self, pod: str, events: Sequence[Object]) -> Iterator[Problem]:
        for event in events:
            if event.get("reason") in START_REASONS:
                yield Problem(
                    f"pod {pod}", self._of_missing_object(event.get("message", "")), START_SECONDS + self.node_seconds
                )
                return

    def _of_missing_object(self, message: str) -> str:
        if re.search(rf'secret "{DAGS_SECRET}"|references non-existent secret key', message):
            return f"the key for {self.repository} is missing: run `make dags-key STACK={self.stack}`"
        return f"it cannot start: {_sentence(message)}"

    def _of_claim(self, claim: Object, events: Sequence[Object]) -> Iterator[Problem]:
        if claim.get("status", {}).get("phase") != "Pending":
            return
        for event in events:
            if event.get("reason") in ("ProvisioningFailed", "FailedBinding"):
                class_ = claim.get("spec", {}).get("storageClassName") or "none, the cluster has no default"
                yield Problem(
                    f"volume {_name(claim)}",
                    f"it cannot be provisioned ({_sentence(event.get('message', ''))}; class: {class_}): set "
                    f"airflow:storage_class in Pulumi.{self.stack}.yaml to one of `kubectl get storageclass`",
                    START_SECONDS,
                )
                return

    def _of_controllers(self, namespace: Namespace) -> Iterator[Problem]:
        """Yield why controllers cannot create pods, for those that have none."""
        for event in namespace.events:
            owner = event.get("involvedObject", {})
            refused = event.get("reason") == "FailedCreate" and owner.get("kind") in CONTROLLERS
            if refused and not any(_owned_by(pod, owner) for pod in namespace.pods):
                message = _sentence(event.get("message", "").removeprefix("Error creating: "))
                yield Problem(
                    f"{owner['kind']} {owner.get('name')}", f"its pods cannot be created: {message}", ROOM_SECONDS
                )


def _failure(container: Object) -> Object | None:
    """Return the termination state of a container that keeps failing or has failed for good."""
    state, restarts = container.get("state", {}), container.get("restartCount", 0)
    now, before = state.get("terminated"), container.get("lastState", {}).get("terminated")
    looping = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    ended = now or before
    if not ended or ended.get("exitCode") == 0:
        return None
    if (looping or now) and restarts >= HARMLESS_RESTARTS:
        return dict(ended)
    return None


def _events_of(events: Sequence[Object], thing: Object) -> list[Object]:
    uid = thing.get("metadata", {}).get("uid")
    return [event for event in events if event.get("involvedObject", {}).get("uid") == uid]


def _owned_by(pod: Object, owner: Object) -> bool:
    owners = pod.get("metadata", {}).get("ownerReferences") or ()
    return any(reference.get("uid") == owner.get("uid") for reference in owners)


def _name(thing: Object) -> str:
    return str(thing.get("metadata", {}).get("name"))


def _sentence(message: str) -> str:
    """Return a Kubernetes message as one line without its full stop."""
    return " ".join(message.split()).rstrip(".")
