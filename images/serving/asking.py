"""Questions and answers, for models that answer questions: a page for people, and /ask for programs."""

import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, StringConstraints, ValidationError

from served_model import FAILED, ServedModel, failure_of

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("ask.html")
EVENTS = "text/event-stream"
# For each client's address.
QUESTIONS_PER_MINUTE = 30
MAX_CHARACTERS = 2000
SEND_QUESTION = (
    'Send a JSON object such as {"question": "Who may deploy?"}; '
    f"the question may have at most {MAX_CHARACTERS} characters."
)
TOO_MANY = f"These are more than {QUESTIONS_PER_MINUTE} questions in a minute; ask again later."


class Asked(BaseModel):
    """The body of a request to /ask."""

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CHARACTERS)]


def create_router(model: ServedModel) -> APIRouter:
    """Create the page and /ask."""
    router = APIRouter()
    limiter, limit = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(QUESTIONS_PER_MINUTE)

    content = PAGE.read_text()
    headers = {
        "Content-Security-Policy": _policy(content),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    @router.get("/", response_class=HTMLResponse)
    async def page() -> HTMLResponse:
        return HTMLResponse(content, headers=headers)

    schema = {"content": {"application/json": {"schema": Asked.model_json_schema()}}}

    @router.post("/ask", openapi_extra={"requestBody": schema})
    async def ask(request: Request) -> Response:
        client = request.client.host if request.client else ""
        if not limiter.hit(limit, client):
            seconds = max(1, round(limiter.get_window_stats(limit, client).reset_time - time()))
            raise HTTPException(429, TOO_MANY, {"Retry-After": str(seconds)})
        question = _question(await request.body())
        if EVENTS not in request.headers.get("Accept", ""):
            return JSONResponse(await to_thread.run_sync(_reply, model, question))
        events = model.ask(question)
        first = await to_thread.run_sync(_first, events)
        return StreamingResponse(
            _stream(model, first, events), media_type=EVENTS, headers={"Cache-Control": "no-store"}
        )

    return router


def _policy(page: str) -> str:
    """Return the policy by which the page runs only its own script, loads nothing, and is not shown in another page."""
    script, style = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0] for tag in ("script", "style"))
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _question(body: bytes) -> str:
    try:
        return Asked.model_validate_json(body).question
    except ValidationError as error:
        raise HTTPException(422, SEND_QUESTION) from error


def _reply(model: ServedModel, question: str) -> dict[str, Any]:
    reply = model.reply(question)
    if failure := failure_of(reply):
        raise failure
    return {**reply, "model_version": model.version}


def _first(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    first = next(events)
    if failure := failure_of(first):
        raise failure
    return first


def _stream(model: ServedModel, first: dict[str, Any], events: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    yield _event({**first, "model_version": model.version})
    try:
        for event in events:
            yield _event(event)
    except Exception:
        log.exception("The model failed.")
        yield _event({"error": FAILED})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
