"""A port for HTTP/1.1: uvicorn, for the REST interface and for pages.

It refuses requests of this machine that name another host, whatever their paths are.

uvicorn's parser h11 limits the size of a head, refuses two lengths or two Host headers, and does
not read a body faster than the application takes it. It accepts some requests that invite
smuggling, such as lines that end with a bare line feed. That needs a proxy which reads them in
another way; a proxy for the open internet writes such requests anew.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import uvicorn
from starlette.requests import Request

from imgpipe.serving.server import ports
from imgpipe.serving.server.rest.requests import check_host, host_name, refusal
from imgpipe.serving.server.status import StatusError

_SHARE = 0.5
"""Fraction of the open files of the process that connections may use. Those of gRPC may use another
quarter, so that a quarter is left for the files of models and logs."""
_ACCEPTED_AT_ONCE = 16
"""Connections that are accepted before other tasks run; 1,500 at once take 0.4 s."""
_LOOK_S = 5.0
"""Seconds between two looks for silent connections."""
_POLL_S = 0.01
_END_S = 5.0
"""Seconds for the last answers."""
#: Addresses that stand for all networks of this machine, and those at which a browser opens them,
#: because connections from this machine must name it by those (`requests.check_host`).
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_ELSEWHERE = ("192.0.2.1", 9)
"""An address of no machine (RFC 5737), to which the usual route leads."""


def host_to_open(host: str, by_others: bool = False) -> str:
    """Return the host in the address of a page, with brackets around an IPv6 address.

    Args:
        host: Address on which the port listens.
        by_others: Whether another machine opens the page, such as a phone.
    """
    bare = host.strip("[]")
    if bare in _LOOPBACK:
        bare = _own_address() if by_others else _LOOPBACK[bare]
    return f"[{bare}]" if ":" in bare else bare


def _own_address() -> str:
    """Return the IPv4 address of this machine in its network, or its name without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)  # of UDP, which sends nothing
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


class HttpPort:
    """A port that answers with an ASGI application.

    Args:
        host: Address to listen on, with ResourceError if that is not possible.
        port: Number of the port; 0 for any free one.
        another: How a person chooses another port, for the error.
        allowed_hosts: Names of this machine in requests, as `requests.check_host` has them.
    """

    def __init__(
        self, host: str, port: int, another: str, allowed_hosts: Sequence[str] = ()
    ) -> None:
        self._socket = ports.bound(host, port, another)
        self.port: int = self._socket.getsockname()[1]
        self.running = 0
        """Number of requests without an answer so far."""
        self._most = ports.connections(_SHARE)
        # People copy the name out of an address, with its scheme and port.
        self._allowed = [host_name(name.rpartition("//")[2]) for name in allowed_hosts]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    async def serve(self, app: Any) -> None:
        """Answer requests with an ASGI application until the port is stopped."""
        await self._serve(self._listening(app))

    def start(self, app: Any) -> None:
        """Answer requests in a thread of its own."""
        server = self._listening(app)  # here, so that `stop` finds it, however early it is called
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(server)), name="http", daemon=True
        )
        self._thread.start()

    def _listening(self, app: Any) -> uvicorn.Server:
        """Listen, and return the server that answers with an ASGI application."""
        self._app = app
        config = uvicorn.Config(
            self._answer,
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,  # otherwise uvicorn would configure the logging of the process
            log_level="error",  # errors of clients are not logged
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=self._most,
            backlog=_ACCEPTED_AT_ONCE,  # asyncio accepts as many before other tasks run
            timeout_keep_alive=ports.IDLE_S,
            timeout_graceful_shutdown=1,  # `stop` has waited for the requests before
        )
        self._server = uvicorn.Server(config)
        self._socket.listen(ports.BACKLOG)
        return self._server

    async def _serve(self, server: uvicorn.Server) -> None:
        ending = asyncio.create_task(self._end_silent(server))
        try:
            await server.serve(sockets=[self._socket])
        finally:
            ending.cancel()
            self._socket.close()

    async def _end_silent(self, server: uvicorn.Server) -> None:
        """End connections that begin no request; uvicorn ends only those that have had an answer.

        Where there are too many connections, which get 503 by then, it ends them soon.
        """
        last: dict[Any, tuple[object, float]] = {}
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            connections = cast("set[Any]", server.server_state.connections)
            patience = ports.IDLE_S if len(connections) < self._most else _LOOK_S
            begun = {each: (each.cycle, now) for each in connections}
            last = {
                each: last[each] if each in last and last[each][0] is request[0] else request
                for each, request in begun.items()
            }
            for connection, (_, since) in last.items():
                if now - since >= patience:
                    connection.shutdown()  # after its answer, where it waits for one

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._app
        try:
            check_host(Request(scope), self._allowed)
        except StatusError as error:
            app = refusal(error)
            app.headers["Connection"] = "close"  # the body of the request is not read
        self.running += 1
        try:
            await app(scope, receive, send)
        finally:
            self.running -= 1

    def wait(self) -> None:
        """Wait until the port is closed, so that the main thread can still receive signals."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)

    def stop(self, grace: float) -> bool:
        """Wait at most `grace` seconds for running requests, then let `serve` end.

        It returns whether all requests have finished.
        """
        end = time.monotonic() + grace
        while self.running and time.monotonic() < end:
            time.sleep(_POLL_S)
        finished = not self.running
        if self._server is None:
            self._socket.close()
        else:
            # Without it, uvicorn would wait for requests that are cut off here.
            self._server.force_exit = not finished
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_END_S)
        return finished
