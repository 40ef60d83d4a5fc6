"""A fake of the API server of Kubeflow Pipelines 2.17 on a port of loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.kubeflow import json_server

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
        if body is not None:
            if self.refusal:
                status, sentence = self.refusal
                return status, {"error": sentence, "code": 3, "message": sentence}
            self.posted = body
            return 200, {"run_id": RUN, "state": "PENDING"}
        self.tokens.add(headers["Authorization"])
        try:
            return 200, self._get(target)
        except LookupError as error:
            return 404, {"error": f"Not Found: {error}", "code": 5}

    def _get(self, target: str) -> object:
        path = urlsplit(target).path
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
    with json_server.running(server.answer) as port:
        server.host = f"http://127.0.0.1:{port}"
        yield server
