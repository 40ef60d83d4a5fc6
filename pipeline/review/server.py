"""Runs a review on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from imgpipe.pipeline.review.web import Review, make_app
from imgpipe.serving.server.rest.port import HttpPort, host_to_open

_STOP_S = 5.0  # seconds for the last answers


@contextlib.contextmanager
def running(review: Review, host: str, port: int) -> Iterator[tuple[str, HttpPort]]:
    """Serve a review while the context lasts.

    Args:
        review: The review.
        host: Address to bind.
        port: Port; 0 for any free one.

    Yields:
        The address of the page with its token, and the port.

    Raises:
        ResourceError: The address cannot be bound.
    """
    served = HttpPort(host, port, "--port 0 takes any free one")
    served.start(make_app(review))
    try:
        # Browsers do not send what follows #, so that the token is in no request line and no log.
        yield f"http://{host_to_open(host)}:{served.port}/#{review.token}", served
    finally:
        served.stop(_STOP_S)
