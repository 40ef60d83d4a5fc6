"""Calls over the REST interface, for networks that gRPC cannot pass.

REST is slower than gRPC because images travel as base64 and numbers as text. Calls are retried as
over gRPC. Every reply says which version answered. TensorFlow Serving's answers do not contain it,
so the client first asks for the newest version and then sends the request to that version. The
embedded server names the version in a header; there, the client asks only once. The HTTP client is
that of the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import os
import queue
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from imgpipe.serving.client import errors, rest_codec
from imgpipe.serving.client.errors import InvalidArgument, NotFound, ServingError, Unavailable
from imgpipe.serving.client.options import Connection, Tls
from imgpipe.serving.client.protos import METADATA, MODELS, STATUS
from imgpipe.serving.client.steps import Call

_VERSION_HEADER = "Model-Version"  # sent by the embedded server, not by TensorFlow Serving
_READ_BYTES = 1 << 20
_MOST_CALLS = 1024
"""Number of calls of an asyncio client that run at once, each in a thread; further ones wait."""
_JITTER = 0.2  # pauses vary randomly by up to 20 %, as in gRPC


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._connection: http.client.HTTPConnection | None = None

    def left(self) -> float:
        return self._end - time.monotonic()

    def limit(self, connection: http.client.HTTPConnection) -> None:
        """Let the next operation of a connection take no longer than the time that is left."""
        self._connection = connection
        left = self.left()
        if left <= 0:
            raise TimeoutError
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)

    def end(self) -> None:
        """End the call now, from another thread."""
        self._end = 0.0
        if (connection := self._connection) is not None:
            _shut_down(connection)

    def release(self) -> None:
        """Leave the connection to other calls."""
        self._connection = None


def _shut_down(connection: http.client.HTTPConnection) -> None:
    """End a connection that another thread uses."""
    with contextlib.suppress(OSError):  # it has ended
        if connection.sock is not None:
            # Without the method of TLS sockets, which another thread must not call.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


@dataclass(frozen=True)
class _Answer:
    """An HTTP answer, and the version in its headers, if any."""

    status: int
    content: bytes
    version: int | None


class RestTransport:
    """HTTP connections to one server, kept open between calls. This class is thread-safe."""

    def __init__(self, connection: Connection) -> None:
        """Check the address; the first call connects.

        Raises:
            InvalidArgument: The address is not that of a REST interface.
        """
        try:  # ``port`` raises for a number that is no port
            address = urlsplit(connection.target)
            port = address.port
        except ValueError:
            address, port = urlsplit(""), -1
        self._prefix = address.path.rstrip("/")
        if (
            not address.hostname
            or port == -1
            or address.query
            or address.fragment
            or self._prefix.endswith("/v1")
        ):
            raise InvalidArgument(
                "The address of a REST interface must be http://host:port or https://host:port, "
                "followed by the path of a gateway if there is one, without /v1. "
                f"Received: {connection.target!r}."
            )
        self._connection = connection
        self._host, self._port = address.hostname, port
        self._context = None
        if address.scheme == "https":
            self._context = (connection.tls or Tls()).context()
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()
        self._busy: set[http.client.HTTPConnection] = set()
        self._process = os.getpid()
        self._closed = False
        self._fixed: dict[str, Any] = {}  # metadata of versions that requests name, by path
        self._newest: dict[str, Any] = {}  # metadata of the version that answered last, by path

    def call(self, call: Call, deadline: _Deadline | None = None) -> Any:
        """Send ``call`` and return its reply as the message of the gRPC interface.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """
        deadline = deadline or _Deadline(call.timeout)
        if call.method is MODELS:
            return rest_codec.models_reply(self._get(rest_codec.MODELS_PATH, call, deadline))
        if call.method is STATUS:
            path = rest_codec.model_path(call.request.model_spec)
            return rest_codec.status_reply(self._get(path, call, deadline))
        if call.method is METADATA:
            return self._metadata(rest_codec.model_path(call.request.model_spec), call, deadline)
        if call.method.name not in rest_codec.VERBS:
            raise errors.Unimplemented(
                f"{call.method.name} does not exist in the REST interface. Use the gRPC address of "
                "the server."
            )
        try:
            return self._infer(call, deadline)
        except NotFound:
            if call.request.model_spec.WhichOneof("version_choice") == "version":
                raise
            # The version was replaced between the two requests.
            return self._infer(call, deadline)

    def _infer(self, call: Call, deadline: _Deadline) -> Any:
        # Only the metadata say which dtypes the outputs have, so an answer is read with those of
        # the very version that gave it.
        spec = call.request.model_spec
        model = rest_codec.model_path(spec)
        body = rest_codec.request_body(call.method, call.request)
        if known := self._newest.get(model):  # the server names the version with its answer
            path = rest_codec.action_path(call.method, spec)
            answer = self._request("POST", path, body, call, deadline)
            if answer.version is not None:
                if answer.version != known.model_spec.version.value:
                    named = rest_codec.model_path(spec, answer.version)
                    known = self._newest[model] = self._metadata(named, call, deadline)
                return rest_codec.inference_reply(call.method, call.request, known, answer.content)
            self._newest.pop(model, None)
        pinned = spec.WhichOneof("version_choice") == "version"
        metadata = self._fixed.get(model) or self._metadata(model, call, deadline)
        path = rest_codec.action_path(call.method, spec, metadata.model_spec.version.value)
        answer = self._request("POST", path, body, call, deadline)
        if pinned:
            self._fixed[model] = metadata
        elif answer.version is not None:
            self._newest[model] = metadata
        return rest_codec.inference_reply(call.method, call.request, metadata, answer.content)

    def _metadata(self, model: str, call: Call, deadline: _Deadline) -> Any:
        return rest_codec.metadata_reply(self._get(f"{model}/metadata", call, deadline))

    def _get(self, path: str, call: Call, deadline: _Deadline) -> bytes:
        return self._request("GET", path, None, call, deadline).content

    def _request(
        self, verb: str, path: str, body: bytes | None, call: Call, deadline: _Deadline
    ) -> _Answer:
        retry = self._connection.retry
        attempt, pause = 1, retry.first_pause
        while True:
            try:
                return self._try_once(verb, path, body, deadline)
            except Unavailable as error:
                # ``wait_for_ready`` is about a server that cannot be reached, as in gRPC. One that
                # answers 503 has only its attempts.
                wait = call.wait_for_ready and isinstance(error.__cause__, OSError)
                pause_now = pause * random.uniform(1 - _JITTER, 1 + _JITTER)
                if (attempt >= retry.attempts and not wait) or deadline.left() <= pause_now:
                    raise
                last = error
            time.sleep(pause_now)
            if deadline.left() <= 0:  # the pause took longer than requested
                raise last
            attempt, pause = attempt + 1, min(pause * retry.factor, retry.longest_pause)

    def _try_once(self, verb: str, path: str, body: bytes | None, deadline: _Deadline) -> _Answer:
        target, seconds = self._connection.target, deadline.seconds
        if self._closed:
            raise errors.closed(target)
        connection, fresh = self._connected()
        self._busy.add(connection)
        try:
            try:
                answer = self._exchange(connection, verb, path, body, deadline)
            except TimeoutError:
                raise
            except OSError:
                if fresh or self._closed:
                    raise
                # The server has closed this connection between two calls, and probably the other
                # idle ones too.
                connection.close()
                self._close_idle()
                self._busy.discard(connection)
                connection = self._new_connection()
                self._busy.add(connection)
                answer = self._exchange(connection, verb, path, body, deadline)
        except TimeoutError as error:
            connection.close()
            raise errors.too_late("no reply", target, seconds) from error
        except OSError as error:
            connection.close()
            if self._closed:
                raise errors.closed(target) from error
            raise errors.unreachable(error, target) from error
        except http.client.HTTPException as error:
            connection.close()
            raise ServingError(
                f"The answer of {target} is not HTTP ({type(error).__name__}). Is this the port of "
                "the gRPC interface?"
            ) from error
        finally:
            deadline.release()
            self._busy.discard(connection)
        self._idle.put(connection)
        if answer.status >= 300:
            text = rest_codec.error_text(answer.content)
            raise errors.from_http(answer.status, text, target)
        return answer

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        verb: str,
        path: str,
        body: bytes | None,
        deadline: _Deadline,
    ) -> _Answer:
        """Send a request and read its answer before the deadline."""
        headers = dict(self._connection.headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
            if self._connection.compression:
                headers["Content-Encoding"], body = "gzip", gzip.compress(body)
        deadline.limit(connection)
        connection.request(verb, self._prefix + path, body, headers)
        deadline.limit(connection)
        response = connection.getresponse()
        # Read in pieces, so that the deadline also ends an answer that arrives slowly.
        parts = []
        try:
            while part := response.read(_READ_BYTES):
                parts.append(part)
                deadline.limit(connection)
        except http.client.IncompleteRead as error:
            raise ConnectionResetError("the answer ended early") from error
        if response.length:  # read(n) raises no error if a body of a known length ends early
            raise ConnectionResetError(f"the answer ended {response.length} bytes early")
        version = response.getheader(_VERSION_HEADER, "")
        number = int(version) if version.isascii() and version.isdigit() else None
        return _Answer(response.status, b"".join(parts), number)

    def _connected(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection and whether it is new."""
        # After a fork, two processes would write their requests into the same connections, and
        # each could read the answers to the other.
        if self._process != os.getpid():
            self._process, self._idle, self._busy = os.getpid(), queue.LifoQueue(), set()
        try:
            return self._idle.get_nowait(), False
        except queue.Empty:
            return self._new_connection(), True

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._context)

    def close(self) -> None:
        """Close all connections; calls in flight end with an error."""
        self._closed = True
        self._close_idle()
        if self._process != os.getpid():
            return  # the calls are those of the process of which this one is a fork
        for connection in list(self._busy):
            _shut_down(connection)

    def _close_idle(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


class AioRestTransport:
    """``RestTransport`` for asyncio, which runs the calls in threads."""

    def __init__(self, connection: Connection) -> None:
        self._blocking = RestTransport(connection)
        self._target = connection.target
        # asyncio's own threads are only four more than the cores. Further calls would wait for one
        # of them beyond their deadline, and ``imgpipe load`` would measure that wait.
        self._threads = ThreadPoolExecutor(_MOST_CALLS, "imgpipe-rest")

    async def call(self, call: Call) -> Any:
        """Send ``call`` and return its reply; see ``RestTransport.call``.

        Raises:
            ServingError: The server refuses the request or does not answer.
        """
        loop, deadline = asyncio.get_running_loop(), _Deadline(call.timeout)
        try:
            answer = loop.run_in_executor(self._threads, self._blocking.call, call, deadline)
        except RuntimeError as error:  # the threads have been shut down
            raise errors.closed(self._target) from error
        try:
            return await answer
        except asyncio.CancelledError:
            deadline.end()
            raise

    async def close(self) -> None:
        """Close the connections."""
        self._blocking.close()
        self._threads.shutdown(wait=False)
