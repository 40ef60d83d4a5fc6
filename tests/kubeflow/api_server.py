"""Fakes of the API servers of Kubeflow Pipelines and of Kubernetes on one port of loopback.

They answer as the real ones did, about runs on a cluster: Kubeflow Pipelines 2.17 names no pod of a
task, lists entries of the cache without names or states, and ends a cancelled run as FAILED.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUN = "9f1c237b-dfad-4614-967f-54bd157d6502"
_NODES = "hands-sn7ds.root"
#: As the server lists them: one of the cache, one without a state, one that was left running.
TASKS = [
    {"run_id": RUN, "task_id": "30ab", "create_time": "2026-11-24T13:07:33Z"},
    {"run_id": RUN, "task_id": "31cd", "display_name": "Report-driver"},
    {"run_id": RUN, "task_id": "32ef", "display_name": "root", "state": "RUNNING"},
]


@dataclass
class ApiServer:
    """The state of the fakes: what they answer, and what they were asked.

    Attributes:
        host: URL of the server.
        states: States of the run, of which each request takes the next; the last one stays.
        history: States that the run has had.
        refusal: Status and message of the answer to a new run, or None to accept the run.
        pods: Phase, log and waiting reason of the pods, by task.
        posted: Body of the request for a new run.
        tokens: Values of the header `Authorization` that were sent to Kubeflow Pipelines.
    """

    host: str = ""
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    history: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    pods: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    posted: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)

    def get(self, path: str, query: dict[str, list[str]]) -> object:
        """Return what answers a GET request; raise LookupError for an unknown path."""
        if path == "/apis/v2beta1/healthz":
            return {"multi_user": False}
        if path == "/apis/v2beta1/experiments":
            return {"experiments": [{"experiment_id": "e4eb554a", "display_name": "imgpipe"}]}
        if path == f"/apis/v2beta1/runs/{RUN}":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            history = [{"state": one} for one in (*self.history, state)]
            details = {"task_details": TASKS}
            run = {"run_id": RUN, "state": state, "run_details": details}
            return {**run, "state_history": history}
        if path == "/api/v1/namespaces/kubeflow/pods":
            assert query["labelSelector"] == [f"pipeline/runid={RUN}"]
            return {"kind": "PodList", "items": [self._pod(task) for task in self.pods]}
        task = path.removeprefix("/api/v1/namespaces/kubeflow/pods/").removesuffix("/log")
        return self.pods[task][1]

    def _pod(self, task: str) -> dict[str, Any]:
        phase, _, waiting = self.pods[task]
        node = {"workflows.argoproj.io/node-name": f"{_NODES}.{task}.executor(0)"}
        state = {"waiting": {"reason": waiting, "message": "no such image"}} if waiting else {}
        status = {"name": "main", "state": state, "image": "i", "imageID": "", "ready": False}
        return {
            "metadata": {"name": task, "annotations": node},
            "status": {
                "phase": phase,
                "startTime": "2026-11-24T13:08:00Z",
                "containerStatuses": [{**status, "restartCount": 0}],
            },
        }

    def kubeconfig(self, file: Path) -> Path:
        """Write a kubeconfig that names this server."""
        here = {"name": "here"}
        content = {
            "clusters": [here | {"cluster": {"server": self.host}}],
            "users": [here | {"user": {}}],
            "contexts": [here | {"context": {"cluster": "here", "user": "here"}}],
            "current-context": "here",
        }
        file.write_text(json.dumps(content))
        return file


@contextmanager
def running(server: ApiServer) -> Iterator[ApiServer]:
    """Serve `server` on a free port of loopback until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if "v2beta1" in url.path:
                server.tokens.add(self.headers["Authorization"])
            try:
                found = server.get(url.path, parse_qs(url.query))
            except LookupError as error:
                self._send(404, json.dumps({"error": f"Not Found: {error}", "code": 5}))
            else:
                self._send(200, found if isinstance(found, str) else json.dumps(found))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.refusal:
                status, sentence = server.refusal
                self._send(status, json.dumps({"error": sentence, "code": 3, "message": sentence}))
                return
            server.posted = body
            self._send(200, json.dumps({"run_id": RUN, "state": "PENDING"}))

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
