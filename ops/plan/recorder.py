"""The engine's end of the conversation with a program: it writes requests down and answers for the cloud."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi import get_project, get_stack
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2

from ops.plan.cloud import Cloud
from ops.plan.resources import SECRET, STACK_TYPE, Resource

# How Pulumi marks secrets and references in what it sends to the engine:
# https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/sig/sig.go
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
REFERENCE_SIGNATURE = "5cf8f73096256a8f31e491e813e4eb8e"

# What holds a secret without being marked as one by every program that writes it.
ALWAYS_SECRET = {"kubernetes:core/v1:Secret": ("data", "stringData")}


class Recorder(mocks.MockMonitor):
    """A resource monitor that keeps what it is asked for."""

    def __init__(
        self, account: str, region: str, *, reveal: bool, stacks: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Record for a stack in an account and a region; `reveal`: secrets as they are, not masked.

        `stacks` are the outputs of the stacks to which it refers, by their names.
        """
        self.cloud = Cloud(account, region, stacks or {})
        self._reveal = reveal
        super().__init__(self.cloud)
        self._recorded: dict[str, Resource] = {}
        self.exports: dict[str, Any] = {}
        self._lock = threading.Lock()

    def resources_by_urn(self) -> tuple[Resource, ...]:
        """Return what was recorded so far, ordered by URN."""
        return tuple(self._recorded[urn] for urn in sorted(self._recorded))

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """Return the URN that the engine would give: its types are those of all ancestors but the stack."""
        ancestors = parent.split("::")[2] if parent else STACK_TYPE
        kind = type_ if ancestors == STACK_TYPE else f"{ancestors}${type_}"
        return "::".join((f"urn:pulumi:{get_stack()}", get_project(), kind, name))

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        """Record a resource; answer with its inputs and the outputs that the cloud would add."""
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            self._add(Resource(urn=urn, type=request.type, name=request.name, inputs={}, custom=False))
            return resource_pb2.RegisterResourceResponse(urn=urn)
        inputs = json_format.MessageToDict(request.object)
        self._add(
            Resource(
                urn=urn,
                type=request.type,
                name=request.name,
                inputs=plain(inputs, ALWAYS_SECRET.get(request.type, ()), reveal=self._reveal),
                parent=request.parent,
                dependencies=tuple(sorted(set(request.dependencies))),
                provider=_provider(request.provider),
                custom=request.custom,
                protect=request.protect,
                retain=request.retainOnDelete,
            )
        )
        if not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)
        identity, outputs = self.cloud.create(request.type, request.name, inputs)
        answer = struct_pb2.Struct()
        json_format.ParseDict(inputs | _as_secrets(outputs, request.additionalSecretOutputs), answer)
        self.resources[urn] = mocks.MockMonitor.ResourceRegistration(urn, identity, inputs | outputs)
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identity, object=answer)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        """Record the stack's exports."""
        if request.urn.split("::")[2] == STACK_TYPE:
            self.exports = dict(plain(json_format.MessageToDict(request.outputs)))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]

    def _add(self, resource: Resource) -> None:
        with self._lock:
            if resource.urn in self._recorded:
                raise ValueError(f"two resources have the URN {resource.urn}: give one of them another name")
            self._recorded[resource.urn] = resource


def plain(inputs: Mapping[str, Any], hidden: tuple[str, ...] = (), *, reveal: bool = False) -> dict[str, Any]:
    """Return a resource's inputs without Pulumi's marks; null inputs are left out.

    Every secret is masked, and so are the inputs that `hidden` names, unless `reveal` asks for them as they are.
    """
    return {
        name: SECRET if name in hidden and not reveal else _plain(value, reveal=reveal)
        for name, value in sorted(inputs.items())
        if value is not None and name != "__defaults"
    }


def _plain(value: Any, *, reveal: bool) -> Any:
    if isinstance(value, list):
        return [_plain(item, reveal=reveal) for item in value]
    if not isinstance(value, dict):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    signature = value.get(SIGNATURE)
    if signature == REFERENCE_SIGNATURE:
        return value["urn"]
    if signature == SECRET_SIGNATURE:
        return _plain(value["value"], reveal=True) if reveal else SECRET
    # A section of values, where null takes a default away; or a file or a folder: what it holds, without the mark.
    return {
        name: _plain(item, reveal=reveal)
        for name, item in sorted(value.items())
        if name not in (SIGNATURE, "__defaults")
    }


def _as_secrets(outputs: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {
        name: {SIGNATURE: SECRET_SIGNATURE, "value": value} if name in names else value
        for name, value in outputs.items()
    }


def _provider(reference: str) -> str:
    """Shorten `<urn>::<id>` of a provider to `<type>::<name>`."""
    return "::".join(reference.split("::")[2:4]).split("$")[-1]
