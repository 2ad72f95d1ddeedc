"""A Pulumi provider whose cloud is the JSON file in CLOUD, so that tests can change deployed resources."""

import json
import os
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as messages
from pulumi.runtime.proto import provider_pb2_grpc as service

CLOUD = Path(os.environ["CLOUD"])


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

    def Create(self, request: Any, _context: Any) -> Any:  # noqa: N802
        name = request.urn.rpartition("::")[2]
        put(name, request.properties, request.preview)
        return messages.CreateResponse(id=name, properties=request.properties)

    def Update(self, request: Any, _context: Any) -> Any:  # noqa: N802
        put(request.id, request.news, request.preview)
        return messages.UpdateResponse(properties=request.news)

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        there = things()
        if "denied" in there:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "AccessDenied: not yours")
        if request.id not in there:
            return messages.ReadResponse()
        found = struct(there[request.id])
        return messages.ReadResponse(id=request.id, properties=found, inputs=found)

    def Cancel(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()


def put(name: str, properties: Any, preview: bool) -> None:
    if not preview:
        CLOUD.write_text(json.dumps({**things(), name: values(properties)}))


def things() -> dict[str, Any]:
    return dict(json.loads(CLOUD.read_text()))


def values(message: Any) -> dict[str, Any]:
    return dict(json_format.MessageToDict(message))


def struct(content: dict[str, Any]) -> Any:
    return json_format.ParseDict(content, struct_pb2.Struct())


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_ResourceProviderServicer_to_server(Cloud(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
