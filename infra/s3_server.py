"""The ASGI application that an S3 server runs: ministack without its administration interface.

That interface needs no key: one POST to `/_ministack/reset` deletes every object.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ministack.app import app as ministack

HEALTH_PATHS = ("/_ministack/health", "/_ministack/ready")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer S3 requests and the health checks; refuse every other path that no bucket can have."""
    path = scope.get("path", "")
    if scope["type"] == "http" and path.startswith("/_") and not (path in HEALTH_PATHS and scope["method"] == "GET"):
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"only S3 and the health checks are served\n"})
        return
    await ministack(scope, receive, send)
