"""A mock of Pulumi's engine that records a program's requests and responds in place of the cloud."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi import get_project, get_stack
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2

from ops.plan.cloud import Cloud
from ops.plan.resources import SECRET, STACK_TYPE, Resource

# Pulumi's markers of secrets and references in requests to the engine:
# https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/sig/sig.go
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105
REFERENCE_SIGNATURE = "5cf8f73096256a8f31e491e813e4eb8e"

# Inputs that always hold secrets, even if a program does not mark them.
ALWAYS_SECRET = {"kubernetes:core/v1:Secret": ("data", "stringData")}


class Recorder(mocks.MockMonitor):
    """A resource monitor that records the registered resources."""

    def __init__(
        self, account: str, region: str, *, reveal: bool, stacks: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Create a recorder for a stack.

        Args:
            account: The id of the AWS account.
            region: The AWS region.
            reveal: Whether to record secrets in plain text instead of masking them.
            stacks: The outputs of referenced stacks, by stack name.
        """
        self.cloud = Cloud(account, region, stacks or {})
        self._reveal = reveal
        super().__init__(self.cloud)
        self._recorded: dict[str, Resource] = {}
        self.exports: dict[str, Any] = {}
        self._lock = threading.Lock()

    def resources_by_urn(self) -> tuple[Resource, ...]:
        """Return the recorded resources, ordered by URN."""
        return tuple(self._recorded[urn] for urn in sorted(self._recorded))

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """Return the URN that the engine would assign; it contains the types of all ancestors except the stack."""
        ancestors = parent.split("::")[2] if parent else STACK_TYPE
        kind = type_ if ancestors == STACK_TYPE else f"{ancestors}${type_}"
        return "::".join((f"urn:pulumi:{get_stack()}", get_project(), kind, name))

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        """Record a resource; respond with its inputs and the outputs that the cloud would add."""
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
    """Return a resource's inputs without Pulumi's markers and without null inputs.

    Secrets and the inputs in `hidden` are masked, unless `reveal` is set.
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
    # A section of Helm values, where null removes a default; or an asset or archive: its content without the marker.
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
    """Shorten a provider reference `<urn>::<id>` to `<type>::<name>`."""
    return "::".join(reference.split("::")[2:4]).split("$")[-1]
