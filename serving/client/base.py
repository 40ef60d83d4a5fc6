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
            ``ipv4:a:port,b:port``), whose addresses take turns; or ``http://host:port``,
            ``https://host:port`` for the REST interface, with a path where a gateway has it below
            one (``https://host/serving``).
        model: name of the model on the server.
        timeout: deadline of each call in seconds, retries included.
        version: the version to ask; None for the newest that is available.
        label: the version label to ask, such as ``stable``; not together with ``version``.
        wait_for_ready: wait for a server that is not there, until the deadline, instead of failing
            at once. With it a call sits through a restart of the server.
        retry: what to do when the server is UNAVAILABLE; ``Retry(attempts=1)`` for nothing.
        tls: encrypt, and say who we are; None for plain connections.
        health_check: send calls only to servers that say over grpc.health.v1 that they are ready
            (a server without that service counts as ready). State and description of the model
            then cannot be asked while it is not.
        headers: sent with every call, as gRPC metadata or HTTP headers: ``Authorization: Bearer …``
            for a gateway, ``Host`` for KServe's ingress (over gRPC it is the authority).
        compression: ``"gzip"`` to compress requests, which helps tensors and not JPEG files.
        max_message_bytes: limit of a message in both directions, -1 for none (gRPC's own default
            of 4 MiB refuses a modest batch).

    Raises:
        InvalidArgument: a setting that cannot be.
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
