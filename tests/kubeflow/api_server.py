"""A fake API server of Kubeflow Pipelines on loopback, with the v2beta1 REST API that runs need.

Its answers are built from the messages of kfp-server-api, which is generated from the API's own
definition.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as api

RUN, RECURRING = "run-1", "recurring-1"


@dataclass
class ApiServer:
    """The state of the fake server: what it answers, and what it was asked.

    Attributes:
        host: URL of the server.
        refusal: Status and message of the answer to a new run, or None to accept the run.
        states: States of the run, of which each request takes the next; the last one stays.
        tasks: Details of the run's tasks.
        logs: Logs of the pods, by the pod's name.
        posted: Bodies of the POST requests, by path.
        tokens: Values of the header `Authorization` that were sent.
        moved_to: Another server to which GET requests are redirected, or None.
    """

    host: str = ""
    refusal: tuple[int, str] | None = None
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    tasks: list[api.V2beta1PipelineTaskDetail] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    posted: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    moved_to: ApiServer | None = None

    def get(self, path: str) -> object:
        """Return the message that answers a GET request; raise LookupError for an unknown path."""
        if path == "/apis/v2beta1/healthz":
            return api.V2beta1GetHealthzResponse(multi_user=False)
        if path == "/apis/v2beta1/experiments":
            return api.V2beta1ListExperimentsResponse(experiments=[])
        if path == f"/apis/v2beta1/runs/{RUN}":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            details = api.V2beta1RunDetails(task_details=self.tasks)
            return api.V2beta1Run(run_id=RUN, state=state, run_details=details)
        found = re.fullmatch(rf"/apis/v1alpha1/runs/{RUN}/nodes/([^/]+)/log", path)
        if found and found[1] in self.logs:
            return self.logs[found[1]]
        if found:  # the real API server sends its status before it looks for the pod
            return json.dumps({"error_message": f"Failed to read logs for run {RUN}"})
        raise LookupError(path)

    def post(self, path: str, body: Any) -> object:
        """Keep the body of a POST request and return the message that answers it."""
        self.posted[path] = body
        if path == "/apis/v2beta1/experiments":
            return api.V2beta1Experiment(experiment_id="experiment-1", **body)
        if path == "/apis/v2beta1/runs":
            return api.V2beta1Run(run_id=RUN, state="PENDING")
        if path == "/apis/v2beta1/recurringruns":
            return api.V2beta1RecurringRun(recurring_run_id=RECURRING)
        raise LookupError(path)


@contextmanager
def running(server: ApiServer) -> Iterator[ApiServer]:
    """Serve `server` on a free port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if server.moved_to:
                self.send_response(302)
                self.send_header("Location", server.moved_to.host + self.path)
                self.end_headers()
                return
            self._answer(lambda: server.get(urlsplit(self.path).path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = urlsplit(self.path).path
            if server.refusal and path.endswith("runs"):
                status, sentence = server.refusal
                self._send(status, json.dumps({"error": sentence, "code": 3, "message": sentence}))
                return
            self._answer(lambda: server.post(path, body))

        def _answer(self, ask: Any) -> None:
            server.tokens.add(self.headers["Authorization"])
            try:
                found = ask()
            except LookupError as error:
                self._send(404, json.dumps({"error": f"Not Found: {error}", "code": 5}))
                return
            text = found if isinstance(found, str) else None
            plain = api.ApiClient().sanitize_for_serialization(found)
            self._send(200, json.dumps(plain) if text is None else text)

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.host = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
