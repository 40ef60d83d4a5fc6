"""Fakes of the API servers of Kubeflow Pipelines and of Kubernetes on one port of loopback.

They answer as the real ones did, about runs on a cluster: Kubeflow Pipelines 2.17 names no pod of a
task, lists entries of the cache without names or states, and ends a cancelled run as FAILED.
"""

import json
import threading
from collections.abc import Iterator, Mapping
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
        states: States of the run, of which each request takes the next; the last one stays. At
            "", the server restarts.
        history: States that the run has had.
        refusal: Status and message of the answer to a new run, or None to accept the run.
        pods: Phase, log and waiting reason of the pods, by task; None if they are forbidden.
        posted: Body of the request for a new run.
        tokens: Values of the header `Authorization` that were sent to Kubeflow Pipelines.
    """

    host: str = ""
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    history: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    pods: dict[str, tuple[str, str, str]] | None = field(default_factory=dict)
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
        if "v2beta1" in url.path:
            self.tokens.add(headers["Authorization"])
        try:
            return 200, self._get(url.path, parse_qs(url.query))
        except ConnectionError:
            return 503, {"error": "upstream connect error"}
        except PermissionError:
            return 403, {"kind": "Status", "message": "pods is forbidden", "code": 403}
        except LookupError as error:
            return 404, {"error": f"Not Found: {error}", "code": 5}

    def _get(self, path: str, query: dict[str, list[str]]) -> object:
        if path == "/apis/v2beta1/healthz":
            return {"multi_user": False}
        if path == "/apis/v2beta1/experiments":
            return {"experiments": [{"experiment_id": "e4eb554a", "display_name": "imgpipe"}]}
        if path == f"/apis/v2beta1/runs/{RUN}":
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            if not state:
                raise ConnectionError
            history = [{"state": one} for one in (*self.history, state)]
            run = {"run_id": RUN, "state": state, "run_details": {"task_details": TASKS}}
            return {**run, "state_history": history}
        if path == "/api/v1/namespaces/kubeflow/pods":
            assert query["labelSelector"] == [f"pipeline/runid={RUN}"]
            if self.pods is None:
                raise PermissionError
            return {"kind": "PodList", "items": list(map(self._pod, self.pods))}
        task = path.removeprefix("/api/v1/namespaces/kubeflow/pods/").removesuffix("/log")
        return self.pods[task][1]

    def _pod(self, task: str) -> dict[str, Any]:
        phase, _, waiting = self.pods[task]
        name = task if task.endswith("-driver") else f"{task}.executor(0)"
        node = {"workflows.argoproj.io/node-name": f"{_NODES}.{name}"}
        state = {"waiting": {"reason": waiting, "message": "no such image"}} if waiting else {}
        status = {"name": "main", "state": state, "image": "i", "imageID": "", "ready": False}
        return {
            "metadata": {
                "name": task,
                "namespace": "kubeflow",
                "annotations": node,
                "creationTimestamp": f"2026-11-24T13:0{list(self.pods).index(task)}:00Z",
            },
            "status": {
                "phase": phase,
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
def running() -> Iterator[ApiServer]:
    """Serve the fakes on a free port of loopback until the block ends."""
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
            self.wfile.write((found if isinstance(found, str) else json.dumps(found)).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        server.host = f"http://127.0.0.1:{http.server_port}"
        yield server
        http.shutdown()
