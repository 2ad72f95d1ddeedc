"""HTTP service for one version of the registered model `image_classifier`.

Start it with `python serving.py [--host H] [--port P] [--version N|champion]`; the defaults come from SERVING_HOST,
SERVING_PORT and MODEL_VERSION. The model is loaded before the port is bound, and the port is shared (SO_REUSEPORT): a
new process takes requests alongside the old one until the old one gets SIGTERM and finishes its requests.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import image_decoder
from image_classifier import registry
from image_classifier.images import TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_MUCH_MEMORY, UnreadableImageError
from image_classifier.model import Classifier
from ml_common.device import cpu
from ml_common.errors import PermanentError, ServiceUnavailableError
from request_limits import (
    BUSY,
    HEADER_SECONDS,
    MULTIPART_OVERHEAD_BYTES,
    RETRY,
    TimedConnection,
    Turns,
    UploadLimits,
    sentence,
)

# A single image is not faster with more threads.
TORCH_THREADS = 1
SHUTDOWN_SECONDS = 20

# Short form fields in addition to the image.
MAX_FIELDS = 8

TOO_LARGE = {TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_MUCH_MEMORY}
NO_IMAGE = "Send the image file as the multipart field `image`."
NOT_FOUND = "Send an image to /predict by POST, or read /healthz or /metrics by GET."
FAILED = "The server failed; see its log."
FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "string", "format": "binary"}},
        }
    }
}


class Metrics:
    """The metrics of this process."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "serving_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("serving_request_seconds", "Seconds per request.", ["path"], registry=self.registry)
        model = Gauge("serving_model_info", "1 for the version served.", ["model", "version"], registry=self.registry)
        model.labels(registry.MODEL_NAME, version).set(1)


def create_app(classifier: Classifier, version: str) -> FastAPI:
    """Create the service for `classifier`, which is `version` of the registered model."""
    metrics = Metrics(version)
    turns = Turns()
    app = FastAPI(title=registry.MODEL_NAME, version=version, lifespan=_lifespan)
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

    @app.post("/predict", openapi_extra={"requestBody": {"content": FORM}})
    async def predict(request: Request) -> dict[str, object]:
        async with _image_of(request) as image, turns.turn():
            try:
                pixels = await image_decoder.decode(image.file, classifier.image_size)
            except UnreadableImageError as error:
                raise HTTPException(413 if str(error) in TOO_LARGE else 422, sentence(str(error))) from error
            except image_decoder.DecoderStoppedError as error:
                raise HTTPException(503, BUSY, RETRY) from error
            probabilities = await to_thread.run_sync(classifier.classify_pixels, pixels)
        best = max(probabilities, key=lambda name: probabilities[name])
        return {
            "class": best,
            "probability": probabilities[best],
            "probabilities": probabilities,
            "model_version": version,
        }

    # These need no thread, so they answer no matter how many images are waiting.
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": registry.MODEL_NAME, "version": version}

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    paths = {"/predict", "/healthz", "/metrics"}
    return app


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncIterator[None]:
    await image_decoder.start()
    yield


@asynccontextmanager
async def _image_of(request: Request) -> AsyncIterator[UploadFile]:
    """Receive the file of the form's field `image`; the form may also have a few short fields."""
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MULTIPART_OVERHEAD_BYTES)
    except StarletteHTTPException as error:
        raise HTTPException(422, NO_IMAGE) if error.status_code == 400 else error from error
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise HTTPException(422, NO_IMAGE)
        yield image
    finally:
        await form.close()


def load(version: str) -> tuple[Classifier, str]:
    """Load `version`, a number or "champion"; return the classifier and the number."""
    number = registry.champion_version() if version == registry.CHAMPION else version
    if number is None:
        raise PermanentError("There is no champion to serve yet: run the DAG image_classifier first.")
    return registry.load(number).to(cpu(TORCH_THREADS)), number


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket that other processes can share. Raises PermanentError if the port is not available."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PermanentError(f"Cannot listen on {host}:{port}: {error.strerror}; choose another port.") from error
    listener.listen()
    return listener


def main() -> None:
    """Serve until SIGTERM; exit with an error message if the server cannot start."""
    arguments = _arguments()
    try:
        classifier, version = load(arguments.version)
        listener = listen(arguments.host, arguments.port)
    except (PermanentError, ServiceUnavailableError) as error:
        sys.exit(str(error))
    host, port = listener.getsockname()[:2]
    print(f"Serving {registry.MODEL_NAME} version {version} at http://{host}:{port}", flush=True)  # noqa: T201
    # Otherwise anyio lets the decoding process import this file, and with it torch.
    sys.modules["__main__"].__dict__.pop("__file__", None)
    server(create_app(classifier, version)).run(sockets=[listener])


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
    parser.add_argument("--host", default=os.environ.get("SERVING_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("SERVING_PORT", "8080"), help="0 takes a free one")
    parser.add_argument("--version", default=os.environ.get("MODEL_VERSION", registry.CHAMPION))
    return parser.parse_args()


if __name__ == "__main__":
    main()
