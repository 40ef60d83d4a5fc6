"""Fixtures for clients, scripted gRPC servers and certificates."""

from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from imgpipe.serving.client import Client


def ask(target: str, method: str, *arguments: Any, client: dict | None = None, **options: Any):
    """Call one method of a new client, which has the options `client`."""
    with Client(target, **(client or {})) as made:
        return getattr(made, method)(*arguments, **options)


@dataclass
class Scripted(grpc.GenericRpcHandler):
    """A gRPC server that records the bytes of every request and answers by `answer`."""

    answer: Callable[[str, bytes, Any], bytes]
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    """Seconds that were left until the deadline when each call arrived."""

    def service(self, details: Any) -> Any:
        def handle(request: bytes, context: Any) -> bytes:
            self.seen.append((details.method, request))
            self.left.append(context.time_remaining())
            return self.answer(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)


@pytest.fixture
def scripted() -> Iterator[Callable[..., tuple[str, Scripted]]]:
    """Return a function that starts a scripted gRPC server; it returns target and `Scripted`."""
    servers: list[Any] = []

    def start(
        answer: Callable[[str, bytes, Any], bytes] = lambda *_: b"",
        credentials: Any = None,
    ) -> tuple[str, Scripted]:
        made = Scripted(answer)
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers([made])
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}", made

    yield start
    for server in servers:
        server.stop(0).wait()
