"""A fake of the API server of Kubeflow Pipelines on a port of loopback.

It answers as a real one of 2.17 did about runs on a cluster, which ends a cancelled run as FAILED.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

RUN = "9f1c237b-dfad-4614-967f-54bd157d6502"


@dataclass
class ApiServer:
    """The state of the fake: what it answers, and what it was asked.

    Attributes:
        host: URL of the server.
        states: States of the run, of which each request takes the next; the last one stays.
        refusal: Status and message of the answer to a new run, or None to accept the run.
        posted: Body of the request for a new run.
        tokens: Values of the header `Authorization` that were sent.
    """

    host: str = ""
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    refusal: tuple[int, str] | None = None
    posted: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, target: str, headers: Mapping[str, str], body: Any) -> tuple[int, object]:
        """Return status and answer of a request; its body is None for GET."""
        url = urlsplit(target)
        if body is not None:
            if self.refusal:
                status, sentence = self.refusal
                return status, {"error": sentence, "code": 3, "message": sentence}
            self.posted = body
            return 200, {"run_id": RUN, "state": "PENDING"}
        self.tokens.add(headers["Authorization"])
        try:
            return 200, self._get(url.path)
        except LookupError as error:
            return 404, {"error": f"Not Found: {error}", "code": 5}

    def _get(self, path: str) -> object:
        if path == "/apis/v2beta1/healthz":
            return {"multi_user": False}
        if path == "/apis/v2beta1/experiments":
            return {"experiments": [{"experiment_id": "e4eb554a", "display_name": "imgpipe"}]}
        if path == f"/apis/v2beta1/runs/{RUN}":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return {"run_id": RUN, "state": state}
        raise LookupError(path)


@contextmanager
def running() -> Iterator[ApiServer]:
    """Serve the fake on a free port of loopback until the block ends."""
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            status, found = server.answer(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        server.host = f"http://127.0.0.1:{http.server_port}"
        yield server
        http.shutdown()
