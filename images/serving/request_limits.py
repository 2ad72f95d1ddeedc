"""Limits for the time and number of clients' requests. uvicorn itself does not limit slow requests."""

import asyncio
from http import HTTPStatus

import h11
from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

JSON = "application/json"

# Of a file, which is on disk until the model gets it.
MAX_BYTES = 20 * 1024 * 1024
# Of a JSON document, which is in memory.
MAX_JSON_BYTES = 4 * 1024 * 1024
MULTIPART_OVERHEAD_BYTES = 4096

# From the start of a connection, or the last answer on it, to the end of a request's headers.
HEADER_SECONDS = 10

# From the end of the headers to the end of the body.
BODY_SECONDS = 30

# From the end of the headers to the end of the answer: more than the body, the wait for the model and its batch take.
REQUEST_SECONDS = 90

# Below the 1,024 files that a process may open on many machines.
MAX_CONNECTIONS = 256

# Uploads in progress or waiting for the model: each takes 1 MiB of memory and up to MAX_BYTES of the volume /tmp.
MAX_UPLOADS = 16

BUSY = "The server is busy with other requests; send this one again in a second."
RETRY = {"Retry-After": "1"}
TOO_LARGE = "The request is larger than {megabytes} MB; send a smaller one."
TOO_SLOW = "The request did not arrive in time; send it again over a faster connection."
INVALID = "This is not a valid HTTP/1.1 request, or its headers are larger than 16 kB."


class UploadLimits:
    """Answers 503 to too many uploads, 413 to a body that is too large, and 408 to a slow one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while counting and timing its body."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif self.uploads >= MAX_UPLOADS:
            await JSONResponse({"detail": BUSY}, 503, RETRY)(scope, receive, send)
        else:
            self.uploads += 1
            try:
                await self.app(scope, _limited(receive, _largest(scope)), send)
            finally:
                self.uploads -= 1


def is_json(headers: Headers) -> bool:
    """Return whether the body of a request is a JSON document."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == JSON


def _largest(scope: Scope) -> int:
    return MAX_JSON_BYTES if is_json(Headers(scope=scope)) else MAX_BYTES


def _limited(receive: Receive, largest: int) -> Receive:
    deadline: float | None = asyncio.get_running_loop().time() + BODY_SECONDS
    received = 0

    async def limited() -> Message:
        nonlocal received, deadline
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, TOO_SLOW) from error
        received += len(message.get("body", b""))
        if received > largest + MULTIPART_OVERHEAD_BYTES:
            raise HTTPException(413, TOO_LARGE.format(megabytes=largest // 1024**2))
        if not message.get("more_body"):
            deadline = None  # next comes the end of the connection
        return message

    return limited


class TimedConnection(H11Protocol):
    """A connection that is closed when a request or its answer takes too long.

    Beyond MAX_CONNECTIONS, the connection that has waited longest for a request is closed, so that a new client, such
    as a probe, can always connect.
    """

    timer: asyncio.TimerHandle | None = None
    timed_request: object = None

    @property
    def waits_for_request(self) -> bool:
        """Whether the connection is waiting for a request."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_timer()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, TimedConnection) and one.waits_for_request]
            min(waiting, key=lambda one: one.deadline).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Start the timer for the answer when a request begins."""
        super().data_received(data)
        if self.cycle is not self.timed_request:
            self._start_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        super().on_response_complete()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        if self.timer:
            self.timer.cancel()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer in JSON, like all other errors."""
        self._refuse(HTTPStatus.BAD_REQUEST, INVALID)

    @property
    def deadline(self) -> float:
        """When this connection is closed, in the event loop's time."""
        return self.timer.when() if self.timer else 0

    def _start_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timed_request = self.cycle
        self.timer = self.loop.call_later(HEADER_SECONDS if self.waits_for_request else REQUEST_SECONDS, self._expire)

    def _expire(self) -> None:
        begun = self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]
        if begun and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, TOO_SLOW)
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        body = JSONResponse({"detail": reason}).body
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
        for event in (response, h11.Data(data=bytes(body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
