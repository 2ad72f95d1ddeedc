"""HTTP service for one version of a registered model, with the code that the version carries.

Start it with `python serving.py [--host H] [--port P] --model NAME [--version N|champion]`; the defaults come from
SERVING_HOST, SERVING_PORT, MODEL_NAME and MODEL_VERSION. The model is loaded before the port is bound, and the port is
shared (SO_REUSEPORT): a new process takes requests alongside the old one until the old one gets SIGTERM and finishes
its requests.
"""

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import asking
import served_model
from batching import Batches
from request_limits import HEADER_SECONDS, JSON, MULTIPART_OVERHEAD_BYTES, TimedConnection, UploadLimits, is_json
from served_model import CHAMPION, FAILED, Rows, ServedModel, StartError, Upload, failure_of

SHUTDOWN_SECONDS = 20

# Short form fields in addition to the file.
MAX_FIELDS = 8

NOT_FOUND = "Send inputs to /predict by POST, or read /healthz or /metrics by GET."


class Metrics:
    """The metrics of this process."""

    def __init__(self, model: ServedModel) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(model.call_sizes)
        self.requests = Counter(
            "serving_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("serving_request_seconds", "Seconds per request.", ["path"], registry=self.registry)
        info = Gauge("serving_model_info", "1 for the version served.", ["model", "version"], registry=self.registry)
        info.labels(model.name, model.version).set(1)


def create_app(model: ServedModel) -> FastAPI:
    """Create the service for a model."""
    metrics = Metrics(model)
    batches = Batches(model.predict)
    app = FastAPI(title=model.name, version=model.version)
    app.add_middleware(UploadLimits)

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        path = request.url.path if request.url.path in paths else "unknown"  # an unbounded label would grow forever
        metrics.requests.labels(path, str(response.status_code)).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - started)
        return response

    @app.exception_handler(StarletteHTTPException)
    async def explain(_request: Request, error: StarletteHTTPException) -> JSONResponse:
        detail = NOT_FOUND if error.status_code in (404, 405) else error.detail
        return JSONResponse({"detail": detail}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def ignore(_request: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # for the metrics: the client is gone

    @app.exception_handler(Exception)
    async def admit(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": FAILED}, 500)

    @app.post("/predict", openapi_extra={"requestBody": {"content": _content(model.upload_field)}})
    async def predict(request: Request) -> JSONResponse:
        if is_json(request.headers):
            document = await request.body()
            answer = {"predictions": _raised(await batches.answer(Rows(document), len(document)))}
        elif not model.upload_field:
            raise HTTPException(422, model.usage)
        else:
            async with _file_of(request, model) as file:
                [prediction] = _raised(await batches.answer(Upload(file.file), file.size or 0))
            _raised(failure_of(prediction))
            answer = prediction if isinstance(prediction, dict) else {"prediction": prediction}
        return JSONResponse({**answer, "model_version": model.version})

    if model.answers_questions:
        app.include_router(asking.create_router(model))

    # These need no thread, so they answer no matter how many inputs are waiting.
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": model.name, "version": model.version}

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    return app


def _content(upload_field: str | None) -> dict[str, Any]:
    """Return the OpenAPI description of the bodies that /predict takes."""
    content: dict[str, Any] = {JSON: {"schema": {"type": "object"}}}
    if upload_field:
        file = {"type": "string", "format": "binary"}
        form = {"type": "object", "required": [upload_field], "properties": {upload_field: file}}
        content["multipart/form-data"] = {"schema": form}
    return content


def _raised(answer: list[Any] | HTTPException | None) -> Any:
    if isinstance(answer, HTTPException):
        raise answer
    return answer


@asynccontextmanager
async def _file_of(request: Request, model: ServedModel) -> AsyncIterator[UploadFile]:
    """Receive the file of a form, which may also have a few short fields."""
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MULTIPART_OVERHEAD_BYTES)
    except StarletteHTTPException as error:
        raise HTTPException(422, model.usage) if error.status_code == 400 else error from error
    try:
        file = form.get(model.upload_field or "")
        if not isinstance(file, UploadFile):
            raise HTTPException(422, model.usage)
        yield file
    finally:
        await form.close()


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket that other processes can share. Raises StartError if the port is not available."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"Cannot listen on {host}:{port}: {error.strerror}; choose another port.") from error
    listener.listen()
    return listener


def main() -> None:
    """Serve until SIGTERM; exit with an error message if the server cannot start."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it again when all requests are finished
    with TemporaryDirectory() as folder:
        try:
            model = served_model.load(arguments.model, arguments.version, Path(folder))
            listener = listen(arguments.host, arguments.port)
        except StartError as error:
            sys.exit(str(error))
        host, port = listener.getsockname()[:2]
        print(f"Serving {model.name} version {model.version} at http://{host}:{port}", flush=True)  # noqa: T201
        server(create_app(model)).run(sockets=[listener])


def server(app: FastAPI) -> uvicorn.Server:
    """Create a uvicorn server with this service's limits for clients."""
    config = uvicorn.Config(
        app,
        http=TimedConnection,
        ws="none",
        access_log=False,
        timeout_keep_alive=2 * HEADER_SECONDS,  # TimedConnection closes a connection earlier
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    name = os.environ.get("MODEL_NAME")
    parser.add_argument("--host", default=os.environ.get("SERVING_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("SERVING_PORT", "8080"), help="0 takes a free one")
    parser.add_argument("--model", default=name, required=not name, help="the name of the registered model")
    parser.add_argument("--version", default=os.environ.get("MODEL_VERSION", CHAMPION))
    return parser.parse_args()


if __name__ == "__main__":
    main()
