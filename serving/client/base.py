"""Base class of the blocking and the asyncio client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from imgpipe.serving.client.messages import Servable
from imgpipe.serving.client.operations import Operations
from imgpipe.serving.client.options import Connection, Retry, Tls


class ClientBase:
    """A connection to one model on one server.

    Args:
        target: ``host:port`` or any gRPC target (``dns:///name:port``, ``unix:path``,
            ``ipv4:a:port,b:port``); requests are distributed over its addresses.
            ``http://host:port`` and ``https://host:port`` use the REST interface; the address may
            contain a path that a gateway expects (``https://host/serving``).
        model: Name of the model on the server.
        timeout: Deadline of each call in seconds, including retries.
        version: Version to ask; None for the newest available one.
        label: Version label to ask, such as ``stable``; it excludes ``version``.
        wait_for_ready: Whether to wait until the deadline for a server that cannot be reached, for
            example during its restart, instead of failing at once.
        retry: How calls are retried when the server is UNAVAILABLE; ``Retry(attempts=1)`` does not
            retry.
        tls: Settings for encryption and for the client certificate; None for plain connections.
        health_check: Whether to send calls only to servers that report over grpc.health.v1 that
            they are ready. A server without that service counts as ready. Until a server is ready,
            its state and its description of the model cannot be read either.
        headers: Headers of every call, sent as gRPC metadata or as HTTP headers: ``Authorization:
            Bearer …`` for a gateway, ``Host`` for KServe's ingress (over gRPC it is the authority).
        compression: ``"gzip"`` compresses requests. This makes tensors smaller, but not JPEG files.
        max_message_bytes: Largest size of a message in both directions in bytes; -1 for no limit.
            gRPC's own default of 4 MiB would refuse a batch of a few images.

    Raises:
        InvalidArgument: A setting is not valid.
    """

    def __init__(
        self,
        target: str,
        model: str = "imgpipe",
        timeout: float = 30.0,
        *,
        version: int | None = None,
        label: str | None = None,
        wait_for_ready: bool = False,
        retry: Retry | None = None,
        tls: Tls | None = None,
        health_check: bool = False,
        max_message_bytes: int = -1,
        headers: Mapping[str, str] | None = None,
        compression: Literal["", "gzip"] = "",
    ) -> None:
        self._connection = Connection(
            target,
            timeout,
            wait_for_ready,
            retry or Retry(),
            tls,
            health_check,
            max_message_bytes,
            dict(headers or {}),
            compression,
        )
        self._operations = Operations(self._connection, Servable(model, version, label))

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._connection.target

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._operations.servable.name

    @property
    def version(self) -> int | None:
        """The version that is asked; None for the newest, or the label's."""
        return self._operations.servable.version

    @property
    def timeout(self) -> float:
        """Deadline of each call in seconds."""
        return self._connection.timeout
