"""A Pulumi provider whose cloud is the JSON file in CLOUD, so that tests can change deployed resources.

INTERRUPT, such as `create before kill`, interrupts requests before or after they take effect: as soon as REQUESTS of
them wait, they fail, or the engine is killed. A program has a provider process per package, so the processes share a
lock and the list of waiting requests.
"""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, status_pb2
from pulumi.runtime.proto import provider_pb2 as messages
from pulumi.runtime.proto import provider_pb2_grpc as service

CLOUD = Path(os.environ["CLOUD"])
WAITING = CLOUD.with_suffix(".waiting")
INTERRUPT = os.environ.get("INTERRUPT", "")
REQUESTS = int(os.environ.get("REQUESTS", "0"))
THREADS = 200
BARRIER_SECONDS = 30


class Cloud(service.ResourceProviderServicer):
    def GetPluginInfo(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version="1.0.0")

    def CheckConfig(self, request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.CheckResponse(inputs=request.news)

    def DiffConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.DiffResponse(changes=messages.DiffResponse.DIFF_NONE)

    def Configure(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.ConfigureResponse(supportsPreview=True)

    def Check(self, request: Any, _context: Any) -> Any:  # noqa: N802
        return messages.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, _context: Any) -> Any:  # noqa: N802
        old, new = values(request.old_inputs), values(request.news)
        paths = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
        detail = {path: messages.PropertyDiff(kind=messages.PropertyDiff.UPDATE, inputDiff=True) for path in paths}
        changes = messages.DiffResponse.DIFF_SOME if paths else messages.DiffResponse.DIFF_NONE
        return messages.DiffResponse(changes=changes, diffs=paths, detailedDiff=detail, hasDetailedDiff=True)

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        name = request.urn.rpartition("::")[2]
        if not request.preview:
            interrupt("create before", name, context)
            if name in things():
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{name} already exists")
        put(name, request.properties, request.preview)
        if not request.preview:
            interrupt("create after", name, context)
        return messages.CreateResponse(id=name, properties=request.properties)

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not request.preview:
            interrupt("update before", request.id, context)
        put(request.id, request.news, request.preview)
        if not request.preview:
            interrupt("update after", request.id, context)
        return messages.UpdateResponse(properties=request.news)

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        there = things()
        if "denied" in there:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "AccessDenied: not yours")
        if request.id not in there:
            return messages.ReadResponse()
        found = struct(there[request.id])
        return messages.ReadResponse(id=request.id, properties=found, inputs=found)

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        interrupt("delete before", request.id, context)
        with changing() as there:
            there.pop(request.id, None)
        interrupt("delete after", request.id, context)
        return empty_pb2.Empty()

    def Cancel(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()


class Failure(grpc.Status):  # type: ignore[misc]  # the library has no types
    """A failed request. The engine keeps a resource in the state if it exists nevertheless."""

    def __init__(self, name: str) -> None:
        self.code, self.details = grpc.StatusCode.UNKNOWN, f"{name} failed"
        status = status_pb2.Status(code=self.code.value[0], message=self.details)
        if name in things():
            reason = messages.ErrorResourceInitFailed(id=name, properties=struct(things()[name]), reasons=["failed"])
            status.details.add().Pack(reason)
        self.trailing_metadata = [("grpc-status-details-bin", status.SerializeToString())]


def put(name: str, properties: Any, preview: bool) -> None:
    if not preview:
        with changing() as there:
            there[name] = values(properties)


@contextmanager
def changing() -> Iterator[dict[str, Any]]:
    with locked():
        there = things()
        yield there
        temporary = CLOUD.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(there))
        temporary.replace(CLOUD)


@contextmanager
def locked() -> Iterator[None]:
    with CLOUD.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def interrupt(place: str, name: str, context: Any) -> None:
    """Interrupt a request, if INTERRUPT says so, as soon as all requests wait."""
    if not INTERRUPT.startswith(place):
        return
    with locked(), WAITING.open("a") as file:
        file.write(f"{name}\n")
    deadline = time.monotonic() + BARRIER_SECONDS
    while len(WAITING.read_text().splitlines()) < REQUESTS and time.monotonic() < deadline:
        time.sleep(0.05)
    if INTERRUPT.endswith("kill"):
        os.kill(os.getppid(), signal.SIGKILL)
    context.abort_with_status(Failure(name))


def things() -> dict[str, Any]:
    return dict(json.loads(CLOUD.read_text()))


def values(message: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(message))


def struct(content: dict[str, Any]) -> Any:
    return json_format.ParseDict(content, struct_pb2.Struct())


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    service.add_ResourceProviderServicer_to_server(Cloud(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
