"""HTTP service for one version of the registered model `image_classifier`.

Starts with `python serving.py [--host H] [--port P] [--version N|champion]`; defaults come from SERVING_HOST,
SERVING_PORT and MODEL_VERSION. The model is loaded before the port is bound, and the port is shared (SO_REUSEPORT): a
new process takes requests beside the old one until that is stopped with SIGTERM, when it finishes its requests.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from image_classifier import registry
from image_classifier.images import MAX_BYTES, TOO_MANY_BYTES, UnreadableImageError
from image_classifier.model import Classifier
from ml_common.device import cpu
from ml_common.errors import PermanentError, ServiceUnavailableError

# One image gains nothing from more threads, and requests already run side by side.
TORCH_THREADS = 1
MULTIPART_OVERHEAD_BYTES = 4096
SHUTDOWN_SECONDS = 20


class BodyLimit:
    """Answers 413 as soon as a request's body is longer than an image may be, before it fills the disk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BYTES + MULTIPART_OVERHEAD_BYTES:
                raise HTTPException(413, _sentence(TOO_MANY_BYTES))
            return message

        await self.app(scope, limited, send)


class Metrics:
    """What /metrics tells about this process."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "serving_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("serving_request_seconds", "Seconds per request.", ["path"], registry=self.registry)
        model = Gauge("serving_model_info", "1 for the version served.", ["model", "version"], registry=self.registry)
        model.labels(registry.MODEL_NAME, version).set(1)


def create_app(classifier: Classifier, version: str) -> FastAPI:
    """The service for `classifier`, which is `version` of the registered model."""
    metrics = Metrics(version)
    app = FastAPI(title=registry.MODEL_NAME, version=version)
    app.add_middleware(BodyLimit)

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        path = route.path if route else "unknown"  # an unbounded label would grow without end
        metrics.requests.labels(path, str(response.status_code)).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - started)
        return response

    @app.exception_handler(RequestValidationError)
    async def explain(_request: Request, _error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "Send the image file as the multipart field `image`."}, 422)

    @app.post("/predict")
    def predict(image: UploadFile) -> dict[str, object]:
        try:
            probabilities = classifier.classify(image.file.read())
        except UnreadableImageError as error:
            status = 413 if str(error) == TOO_MANY_BYTES else 422
            raise HTTPException(status, _sentence(str(error))) from error
        best = max(probabilities, key=lambda name: probabilities[name])
        return {
            "class": best,
            "probability": probabilities[best],
            "probabilities": probabilities,
            "model_version": version,
        }

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok", "model": registry.MODEL_NAME, "version": version}

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def load(version: str) -> tuple[Classifier, str]:
    """The classifier of `version`, a number or "champion", and that number."""
    number = registry.champion_version() if version == registry.CHAMPION else version
    if number is None:
        raise PermanentError("There is no champion to serve yet: run the DAG image_classifier first.")
    return registry.load(number).to(cpu(TORCH_THREADS)), number


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other processes may share. Raises PermanentError when the port cannot be had."""
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
    """Load, listen, serve until SIGTERM; exit status 1 and one sentence when it cannot start."""
    arguments = _arguments()
    try:
        classifier, version = load(arguments.version)
        listener = listen(arguments.host, arguments.port)
    except (PermanentError, ServiceUnavailableError) as error:
        sys.exit(str(error))
    host, port = listener.getsockname()[:2]
    print(f"Serving {registry.MODEL_NAME} version {version} at http://{host}:{port}", flush=True)  # noqa: T201
    config = uvicorn.Config(
        create_app(classifier, version), access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS
    )
    uvicorn.Server(config).run(sockets=[listener])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default=os.environ.get("SERVING_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=os.environ.get("SERVING_PORT", "8080"), help="0 takes a free one")
    parser.add_argument("--version", default=os.environ.get("MODEL_VERSION", registry.CHAMPION))
    return parser.parse_args()


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}; send a smaller or another image file."


if __name__ == "__main__":
    main()
