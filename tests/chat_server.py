"""A server with the chat completions of OpenAI's API, which answers as a test says."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from ops.loopback import LOOPBACK

KEY = "sk-secret-of-the-test"

# Returns the status and the answer for a prompt and the number of the request.
Script = Callable[[str, int], tuple[int, str]]


class ChatServer:
    """The server.

    Attributes:
        script: What it answers.
        prompts: The prompts that it got.
        bodies: The requests that it got.
        page: A web page that it answers instead.
    """

    def __init__(self) -> None:
        self.script: Script = lambda _prompt, _number: (200, "I don't know.")
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.page: bytes | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.prompts.append(body["messages"][0]["content"])
                status, text = outer.script(outer.prompts[-1], len(outer.prompts))
                if self.path != "/v1/chat/completions" or self.headers["Authorization"] != f"Bearer {KEY}":
                    status = 401
                kind, content = outer.response(body, status, text)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer((LOOPBACK, 0), Handler)

    @property
    def address(self) -> str:
        """The address of the API."""
        return f"http://{LOOPBACK}:{self.http.server_port}/v1"

    def response(self, body: dict[str, Any], status: int, text: str) -> tuple[str, bytes]:
        """Return the type and the content of the response to a request."""
        if self.page:
            return "text/html", self.page
        if status != 200:
            return "application/json", json.dumps({"error": {"message": f"bad {KEY}"}}).encode()
        common = {"id": "1", "created": 0, "model": body["model"]}
        if body.get("stream"):
            pieces = re.findall(r"\S+\s*", text)
            chunks = [
                {**common, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": piece}}]}
                for piece in pieces
            ]
            events = [*map(json.dumps, chunks), "[DONE]"]
            return "text/event-stream", "".join(f"data: {event}\n\n" for event in events).encode()
        message = {"role": "assistant", "content": text}
        answer = {
            **common,
            "object": "chat.completion",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
        }
        return "application/json", json.dumps(answer).encode()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["ChatServer"]:
        """Run a server until the end of the block."""
        server = cls()
        thread = Thread(target=server.http.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.http.shutdown()
            thread.join()
            server.http.server_close()
