"""What is wrong with pods, as sentences that say what to do: from what Kubernetes tells of pods, claims and events.

Objects are dictionaries as Kubernetes' API has them in JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.images.content import ON_NODES

Object = Mapping[str, Any]
# Returns the end of what a container has written, the last time that it ran: of a pod's name and the container's.
Log = Callable[[str, str], str]

# Of a container that waits: https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go
IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ErrImageInspect")
# Events of a pod whose containers the node cannot even begin.
START_REASONS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
# How often a container may end in an error before that counts: most wait for a server that starts beside them.
HARMLESS_RESTARTS = 2

# The names that the chart gives to git-sync, which say what their logs mean.
GIT_SYNC_FIRST = "git-sync-init"
GIT_SYNC = ("git-sync", GIT_SYNC_FIRST)
MIGRATION = "run-airflow-migrations"

CONTROLLERS = ("ReplicaSet", "StatefulSet", "Job")

# How long a problem may last before it is one: images and volumes may be on their way, nodes may be starting.
IMAGE_SECONDS = 20
CRASH_SECONDS = 0
START_SECONDS = 30
ROOM_SECONDS = 45

# What git and ssh write: the sentence says what it means to whoever deploys.
GIT_PROBLEMS = (
    (
        re.compile(r"(couldn't|could not) find remote ref|remote branch .* not found|unknown revision", re.IGNORECASE),
        "the branch {branch} is not in {repository}: push it, or correct airflow:dags in the stack's file",
    ),
    (
        re.compile(r"host key verification failed|no .* host key is known", re.IGNORECASE),
        "the server of {repository} has another host key than known_hosts in the stack's file says: compare both",
    ),
    (
        re.compile(r"permission denied|invalid format|error in libcrypto", re.IGNORECASE),
        "{repository} does not accept the SSH key: put one that may read it into the cluster with `make dags-key`",
    ),
    (
        re.compile(
            r"authentication failed|could not read (username|password)|access denied|terminal prompts disabled",
            re.IGNORECASE,
        ),
        "{repository} does not accept the token: put one that may read it into the cluster with `make dags-key`",
    ),
    (
        re.compile(r"repository .*not found|not appear to be a git repository", re.IGNORECASE),
        "there is no repository {repository}, or the key may not read it: correct airflow:dags in the stack's file",
    ),
    (
        re.compile(r"could not resolve host|unable to (connect|look up)|connection (refused|timed out)", re.IGNORECASE),
        "the cluster does not reach {repository}: see its address in the stack's file, and the network",
    ),
)
# How container runtimes say that a registry answers, and has no such image.
NOT_FOUND = re.compile(r"\b(not found|manifest unknown|name unknown)\b", re.IGNORECASE)
VOLUME_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with one thing.

    Attributes:
        subject: What it is wrong with, such as `pod airflow-scheduler-0`.
        sentence: What is wrong, and what to do.
        patience: Seconds for which it may be so without harm.
    """

    subject: str
    sentence: str
    patience: int

    def __str__(self) -> str:
        """Return the whole sentence."""
        return f"{self.subject}: {self.sentence}"


@dataclass(frozen=True)
class Namespace:
    """What Kubernetes tells of a namespace."""

    pods: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    events: Sequence[Object] = ()


@dataclass(frozen=True)
class Diagnosis:
    """Finds problems of one stack.

    Attributes:
        stack: The stack.
        repository: Where its DAGs come from.
        branch: The branch that it follows.
        node_seconds: How long pods may wait for a node that is started for them.
        registry: Where its own images are pulled from; None where they are in ECR, or loaded onto the nodes.
    """

    stack: str
    repository: str
    branch: str
    node_seconds: int = 0
    registry: str | None = None

    def problems(self, namespace: Namespace, log: Log) -> list[Problem]:
        """Return what is wrong in a namespace; nothing where all is well or on its way."""
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
            yield Problem(f"pod {name}", f"its node had no room left ({_sentence(status.get('message', ''))})", 0)
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
            sentence = f"its volume is not there yet ({_sentence(message)}): see `kubectl get pvc,storageclass`"
        else:
            sentence = f"no node has room for it ({_sentence(message)}): add a node, or ask for less in helm-values"
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
        """Return what keeps git-sync from the first checkout: it tries until it has one, and never ends in an error."""
        problem = self.git_problem(log(_name(pod), GIT_SYNC_FIRST))
        return Problem(f"pod {_name(pod)}", problem, START_SECONDS) if problem else None

    def _of_failure(self, pod: Object, container: str, ended: Object, text: str) -> str:
        if container in GIT_SYNC and (problem := self.git_problem(text)):
            return problem
        if VOLUME_FULL.search(text):
            return f"{container} has no space left on its volume: delete what is not needed, or give it a larger one"
        if ended.get("reason") == "OOMKilled":
            return f"{container} needs more memory than its limit: raise it in helm-values"
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it wrote nothing")
        if pod.get("metadata", {}).get("labels", {}).get("component") == MIGRATION:
            return f"the database could not be brought up to date: {last}"
        return f"{container} ends with code {ended.get('exitCode')} again and again: {last}"

    def git_problem(self, log: str) -> str | None:
        """Return what git-sync's log means, where that is known."""
        for pattern, sentence in GIT_PROBLEMS:
            if pattern.search(log):
                return sentence.format(branch=self.branch, repository=self.repository)
        return None

    def image_problem(self, image: str, message: str) -> str:
        """Return what it means that a node could not pull an image."""
        own = self.registry is not None and image.startswith(f"{self.registry}/")
        if image.startswith(ON_NODES) or ".dkr.ecr." in image or (own and NOT_FOUND.search(message)):
            return f"the image {image} is not there: run `make images STACK={self.stack}`"
        detail = _sentence(message.rsplit(": ", maxsplit=1)[-1]) or "no reason was given"
        return f"the image {image} cannot be pulled ({detail}): see that the nodes reach its registry"

    def _of_start(self, pod: str, events: Sequence[Object]) -> Iterator[Problem]:
        for event in events:
            if event.get("reason") in START_REASONS:
                yield Problem(
                    f"pod {pod}", self._of_missing_object(event.get("message", "")), START_SECONDS + self.node_seconds
                )
                return

    def _of_missing_object(self, message: str) -> str:
        if re.search(r'secret "dags-git"|references non-existent secret key', message):
            return f"there is no key for {self.repository} yet: run `make dags-key STACK={self.stack}`"
        return f"it cannot start: {_sentence(message)}"

    def _of_claim(self, claim: Object, events: Sequence[Object]) -> Iterator[Problem]:
        if claim.get("status", {}).get("phase") != "Pending":
            return
        for event in events:
            if event.get("reason") in ("ProvisioningFailed", "FailedBinding"):
                class_ = claim.get("spec", {}).get("storageClassName") or "none, for the cluster has no default"
                yield Problem(
                    f"volume {_name(claim)}",
                    f"the cluster makes none ({_sentence(event.get('message', ''))}; class: {class_}): name one of "
                    f"`kubectl get storageclass` as airflow:storage_class in Pulumi.{self.stack}.yaml",
                    START_SECONDS,
                )
                return

    def _of_controllers(self, namespace: Namespace) -> Iterator[Problem]:
        """Yield what keeps pods from being made at all, while the latest attempt has made none."""
        for event in namespace.events:
            owner = event.get("involvedObject", {})
            refused = event.get("reason") == "FailedCreate" and owner.get("kind") in CONTROLLERS
            if refused and not any(_owned_by(pod, owner) for pod in namespace.pods):
                message = _sentence(event.get("message", "").removeprefix("Error creating: "))
                yield Problem(f"{owner['kind']} {owner.get('name')}", f"no pod may be made: {message}", ROOM_SECONDS)


def _failure(container: Object) -> Object | None:
    """Return how a container ended, where it does so again and again, or for good."""
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
    """Return a message of Kubernetes' as one line without its full stop."""
    return " ".join(message.split()).rstrip(".")
