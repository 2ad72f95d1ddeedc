"""The program of a pod: a server with OpenAI's API whose model finds the sentence with the expected words."""

import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A port that every pod may reach: OBJECT_STORE_PORTS in infra/airflow/network_policies.py.
PORT = 9000
EXPECTED = {"Restmüll": "am Dienstag", "Wagen": "5W-30", "Drucker": "Gutenberg"}
PASSAGE = re.compile(r"^\[(\d)\] .*:\n((?:.|\n)*?)\n\n", re.MULTILINE)


class Handler(BaseHTTPRequestHandler):
    """Answers chat completions, whole or as a stream."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, stream = answer(body["messages"][0]["content"]), body.get("stream", False)
        part = {"delta": {"content": text}} if stream else {"message": {"role": "assistant", "content": text}}
        kind = "chat.completion.chunk" if stream else "chat.completion"
        content = json.dumps({"id": "1", "created": 0, "model": "m", "object": kind, "choices": [{"index": 0, **part}]})
        content = f"data: {content}\n\ndata: [DONE]\n\n" if stream else content
        self.send_response(200 if self.headers["Authorization"] == f"Bearer {os.environ['KEY']}" else 401)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        self.wfile.write(content.encode())


def answer(prompt: str) -> str:
    """Return the answer to a prompt; there is nothing about a cellar."""
    passages, _, question = prompt.rpartition("Question: ")
    for word, expected in EXPECTED.items():
        for number, passage in PASSAGE.findall(passages):
            if word in question and expected in passage and "Keller" not in question:
                return f"{passage} [{number}]"
    return "I don't know."


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
