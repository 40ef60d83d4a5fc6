"""The ASGI application: TensorFlow Serving's REST API, health checks and pages.

    POST /v1/models/NAME[/versions/N]:predict
    GET  /v1/models/NAME[/versions/N][/metadata]
    GET  /v1/server/models                    the model with its versions
    GET  /v1/health/live, /v1/health/ready    whether the process, and the model, answers
    GET  /monitoring/prometheus/metrics, /metrics

Requests share the model, the threads and the limits of gRPC. Those that describe a model need no
thread, and are answered while all threads are busy.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, request_response

from imgpipe.serving.server import services
from imgpipe.serving.server.calls import Call, Calls, Place
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.metrics import Metrics
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.rest import json_tensors
from imgpipe.serving.server.rest.requests import Bodies, json_response, plain_route, refusal
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.version import VersionState

HEALTH = "/v1/health/"
METRICS = "/monitoring/prometheus/metrics"
"""Path of the metrics in TensorFlow Serving. `/metrics`, where Prometheus looks, has them too."""
VERSION_HEADER = "Model-Version"
"""Header with the version that answered, which TensorFlow Serving's JSON does not contain."""
_PATH = re.compile(
    r"/v1/models(?:/(?P<name>[^/:]+))?"
    r"(?:/versions/(?P<version>[0-9]{1,19}))?"
    r"(?P<action>/metadata|:predict)?",
    re.IGNORECASE,
)
"""As in model_servers/http_rest_api_util.cc. A version is an int64, which has up to 19 digits."""
_FORMS = (
    "POST /v1/models/NAME:predict, GET /v1/models/NAME or GET /v1/models/NAME/metadata, in which "
    "/versions/NUMBER may follow NAME; TensorFlow Serving has /labels/LABEL, too"
)


class RestApi:
    """Answers everything under `/v1/` with the parts of the server, and 404 to the rest.

    Attributes:
        bodies: Reads the bodies of requests.
    """

    def __init__(
        self,
        model: ModelManager,
        calls: Calls,
        log: RequestLog,
        metrics: Metrics,
        is_ready: Callable[[], bool],
        settings: ServerSettings,
    ) -> None:
        self._model = model
        self._calls = calls
        self._log = log
        self._is_ready = is_ready
        self._metrics = metrics
        self.bodies = Bodies(calls, settings.max_body_bytes)

    def app(self, pages: Sequence[Route] = ()) -> Starlette:
        """Return the ASGI application, with the routes of pages."""
        answers: dict[str, Callable[[], Response]] = {
            f"{HEALTH}live": lambda: json_response({"live": True}),
            f"{HEALTH}ready": self._ready,
            "/v1/server/models": lambda: json_response(self._models()),
            METRICS: self._measured,
            "/metrics": self._measured,
        }
        routes = [plain_route(path, answer) for path, answer in answers.items()]
        others = request_response(self._answer)
        made = Starlette(routes=[*routes, *pages, Mount("/", others)])
        made.router.default = others  # for a path without a slash, such as that of OPTIONS *
        return made

    def _ready(self) -> Response:
        up = self._is_ready()
        return json_response({"ready": up}, code=200 if up else 503)

    def _measured(self) -> Response:
        return Response(self._metrics.page(), media_type="text/plain")

    async def _answer(self, request: Request) -> Response:
        # The path as it was sent: names of models may contain an encoded slash or colon.
        path = request.scope["raw_path"].decode("latin-1")
        if query := request.scope["query_string"]:
            path += "?" + query.decode("latin-1")
        try:
            spec, action = _target(request.method, path)
            if action != ":predict":
                return self._describe(spec, action)
        except StatusError as error:
            return refusal(error)
        call = Call("REST", model=spec.name)
        work = functools.partial(self._run, request, call, spec)
        return await self.bodies.answer(request, call, work)

    def _describe(self, spec: Spec, action: str) -> Response:
        if not action:
            return json_response(_status(self._model.states_of(spec)))
        with self._model.acquire(spec) as handle:
            return json_response(_metadata(handle), {VERSION_HEADER: str(handle.version)})

    def _models(self) -> dict[str, Any]:
        return {"models": [{"name": self._model.name, **_status(self._model.states())}]}

    async def _run(
        self, request: Request, call: Call, spec: Spec, place: Place, body: bytes
    ) -> Response:
        """Answer a request in a thread; it is not run if its client leaves before."""

        async def watch() -> None:
            # After the body, the next message of ASGI says that the client has left.
            while (await request.receive())["type"] != "http.disconnect":
                pass
            call.is_abandoned = True

        watcher = asyncio.create_task(watch())
        try:
            work = functools.partial(self._predict, str(request.url), call, spec, body)
            text = await self._calls.answer(call, place, work, len(body))
        finally:
            watcher.cancel()
        headers = {VERSION_HEADER: str(call.version)}
        return Response(text, headers=headers, media_type="application/json")

    def _predict(self, url: str, call: Call, spec: Spec, data: bytes) -> bytes:
        body = json_tensors.parse(data, url)
        with self._model.acquire(spec) as handle:
            call.version = handle.version
            signature = handle.signature(body.signature_name)
            inputs = json_tensors.read(body, signature.inputs)
            outputs = handle.predict(inputs, body.signature_name, call=call)
        text = json_tensors.write(outputs, by_row=body.by_row)
        if self._log.enabled:
            response = services.predict_response(handle, call.signature, outputs)
            self._log.record(inputs, response, outputs)
        return text


def _target(verb: str, path: str) -> tuple[Spec, str]:
    """Return the version that a request names, and `:predict`, `/metadata` or nothing.

    Other paths and methods are a StatusError.
    """
    if path[:4].lower() != "/v1/":
        raise StatusError(Code.NOT_FOUND, f"There is nothing at {path}. Expected: {_FORMS}.")
    match = _PATH.fullmatch(path)
    action = (match["action"] or "").lower() if match else ""
    if match is None or verb != ("POST" if action.startswith(":") else "GET"):
        raise invalid(f"Malformed request: {verb} {path}. Expected: {_FORMS}.")
    if not match["name"]:
        raise invalid("Missing model name in request. GET /v1/server/models tells it.")
    number = int(match["version"]) if match["version"] else None
    return Spec(unquote(match["name"]), number), action


def _status(states: Sequence[VersionState]) -> dict[str, Any]:
    return _in_json(services.status_message(states))


def _metadata(handle: Handle) -> dict[str, Any]:
    answer = _in_json(services.metadata_response(handle))
    del answer["metadata"][services.SIGNATURE_DEF]["@type"]  # which TensorFlow Serving leaves out
    return answer


def _in_json(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
