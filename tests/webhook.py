"""A webhook as Slack has it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from ops.loopback import LOOPBACK

KEY = "T012/B345/s3cr3t-0f-th3-w3bh00k"


@dataclass
class Webhook:
    """What a webhook received, by path, and how it answers."""

    address: str = ""
    status: int = 200
    received: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def connection(self) -> dict[str, str]:
        """The Airflow connection that sends to it."""
        return {"conn_type": "slackwebhook", "host": self.address, "password": KEY}


@contextmanager
def running() -> Iterator[Webhook]:
    """Run a webhook on a free port."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.received.append((self.path, json.loads(body)))
            self.send_response(webhook.status)
            self.end_headers()
            self.wfile.write(b"ok" if webhook.status == 200 else b"invalid_token")

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        webhook.address = f"http://{LOOPBACK}:{server.server_port}/services"
        Thread(target=server.serve_forever, daemon=True).start()
        yield webhook
        server.shutdown()
