"""Authentication and authorization for the MLflow server: an ASGI application in front of MLflow's own.

MLflow's `basic-auth` does not fit: it keeps users in a database, where changed passwords do not arrive, and allows
every user any request that it has no rule for. Here, a request without a rule is refused.
"""

import asyncio
import hmac
import json
import logging
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/health"
# MLflow takes files of up to 10 MiB; everything else is smaller.
MAX_BODY_BYTES = 16 * 2**20
BODY_SECONDS = 60

PAGES = re.compile(r"/|/version|/graphql|/get-artifact|/model-versions/get-artifact|/static-files/.+")
API = re.compile(r"/(?:ajax-)?api/[23]\.0/mlflow/(?P<resource>[^/]+)(?:/(?P<rest>.+))?")
# Tracking and the registry. Left out are resources that make the server connect to other hosts or start programs, such
# as `gateway`, `webhooks`, `jobs` and `assistant`.
RESOURCES = frozenset(
    {
        *("experiments", "runs", "metrics", "logged-models", "registered-models", "model-versions", "traces"),
        *("server-info", "get-trace-artifact", "upload-artifact"),
        # The user interface lists its endpoints; without MLFLOW_DEPLOYMENTS_TARGET it has none and connects nowhere.
        "gateway-proxy",
    }
)
# A client sends the spans of a trace to the first path, and what describes it to the second.
SPANS = "/v1/traces"
TRACES = "/api/3.0/mlflow/traces"
# The other paths of `artifacts` return signed URLs of the object store.
ARTIFACT_LIST = ("artifacts", "list")
# It calls models through `gateway`.
PROMPTLAB = ("runs", "create-promptlab-run")
# Last parts of paths that only read, although they take POST.
POSTED_READS = frozenset(
    {"search", "get-latest-versions", "batchGetInfos", "metrics", "calculate-filter-correlation", "graphql"}
)

log = logging.getLogger("uvicorn.error")


class Right(IntEnum):
    """What a user may do; each right includes the ones before it."""

    READ = 1
    TRACE = 2
    WRITE = 3
    DELETE = 4


@dataclass(frozen=True)
class User:
    """A user of the server."""

    name: str
    password: str
    right: Right


class RefusedError(Exception):
    """The request is refused."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        """Take the HTTP status, one of MLflow's error codes, and a message."""
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error_code": code, "message": message}).encode()


def required_right(method: str, path: str) -> Right | None:
    """Return the right that a request requires, or None if it is refused to every user."""
    if method == "POST" and path in (SPANS, TRACES):
        return Right.TRACE
    api = API.fullmatch(path)
    if api is None:
        served = PAGES.fullmatch(path) is not None
    else:
        served = api.groups() == ARTIFACT_LIST or (api["resource"] in RESOURCES and api.groups() != PROMPTLAB)
    if not served:
        return None
    action = path.rpartition("/")[2]
    if method in ("GET", "HEAD") or (method == "POST" and action in POSTED_READS):
        return Right.READ
    if method == "DELETE" or action.startswith("delete") or action == "restore":
        return Right.DELETE
    return Right.WRITE


def is_allowed_host(host: str, allowed: Sequence[str]) -> bool:
    """Return whether a Host header is one of the allowed `name:port`, where the port `*` matches any number."""
    name, _, port = host.rpartition(":")
    return host in allowed or (port.isascii() and port.isdigit() and f"{name}:*" in allowed)


class Gate:
    """Passes on allowed requests; every request except the health check requires a login."""

    def __init__(self, app: ASGIApp, users: Sequence[User], hosts: Sequence[str]) -> None:
        self._app = app
        self._users = {user.name: user for user in users}
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        # Of any other request, MLflow reads the body before it checks anything.
        if scope["method"] == "GET" and scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
            body = await _body(receive)
        except RefusedError as refusal:
            log.warning("Refused %s %r: %s", scope["method"], scope["path"], refusal)
            await _send_refusal(refusal, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        # MLflow unpacks a compressed body without a limit.
        if headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "BAD_REQUEST", "Send the body uncompressed.")
        if not is_allowed_host(host, self._hosts):
            raise RefusedError(
                HTTPStatus.FORBIDDEN,
                "PERMISSION_DENIED",
                "Use one of the MLFLOW_SERVER_ALLOWED_HOSTS.",
            )
        # Browsers also send the login with requests of other sites' pages.
        if origin is not None and urlsplit(origin).netloc != host:
            raise RefusedError(HTTPStatus.FORBIDDEN, "PERMISSION_DENIED", "Requests from other sites are not allowed.")
        user = self._user(headers.get("authorization", ""))
        if user is None:
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "UNAUTHENTICATED",
                "Log in: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or use the browser's dialog.",
            )
        right = required_right(scope["method"], scope["path"])
        if right is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "ENDPOINT_NOT_FOUND", "This server does not offer this endpoint.")
        if right > user.right:
            raise RefusedError(
                HTTPStatus.FORBIDDEN,
                "PERMISSION_DENIED",
                f"The user {user.name} may not {right.name.lower()}; use another login.",
            )

    def _user(self, authorization: str) -> User | None:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        user = self._users.get(name)
        return user if user and hmac.compare_digest(password.encode(), user.password.encode()) else None


async def _body(receive: Receive) -> bytes:
    """Return the request's whole body."""
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                message = await receive()
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                more = message.get("more_body", False)
                if size > MAX_BODY_BYTES:
                    raise RefusedError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BAD_REQUEST", f"Send at most {MAX_BODY_BYTES} bytes."
                    )
    except TimeoutError as error:
        raise RefusedError(
            HTTPStatus.REQUEST_TIMEOUT, "BAD_REQUEST", f"The request did not arrive within {BODY_SECONDS} s."
        ) from error
    return b"".join(chunks)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns the body first, then what the client sends next."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _send_refusal(refusal: RefusedError, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(refusal.body)).encode())]
    if refusal.status is HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Basic realm="MLflow", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
