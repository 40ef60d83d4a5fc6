"""A small HTTP server on loopback, for fakes of the APIs of Kubeflow Pipelines and Kubernetes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def running(
    answer: Callable[[str, Mapping[str, str], Any], tuple[int, object]],
) -> Iterator[int]:
    """Serve HTTP on a free port, which is yielded, until the block ends.

    Args:
        answer: Takes the path with the query, the headers and the parsed body of a request, which
            is None for GET. Returns the status and the answer: a text, or what becomes JSON.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            status, found = answer(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write((found if isinstance(found, str) else json.dumps(found)).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield http.server_port
    finally:
        http.shutdown()
        http.server_close()
