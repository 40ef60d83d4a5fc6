"""Runs a review on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator

import uvicorn

from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.review.web import Review, make_app
from imgpipe.serving.server.web import page_address

_POLL_S = 0.2  # seconds between two checks whether the server still runs
_STOP_S = 5.0  # seconds for the server to end, after which its thread is left to run


@contextlib.contextmanager
def running(review: Review, host: str, port: int) -> Iterator[tuple[str, threading.Thread]]:
    """Serve a review while the context lasts.

    Args:
        review: The review.
        host: Address to bind.
        port: Port; 0 for any free one.

    Yields:
        The address of the page with its token, and the thread of the server.

    Raises:
        ResourceError: The address cannot be bound.
    """
    # Bound here, because uvicorn would only log that the port is taken, and exit.
    bound = _bound(host, port)
    config = uvicorn.Config(
        make_app(review),
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],), name="review", daemon=True)
    thread.start()
    name = page_address.host_to_open(host)
    # Browsers do not send what follows #, so that the token is in no request line and no log.
    address = f"http://{name}:{bound.getsockname()[1]}/#{review.token}"
    try:
        yield address, thread
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
        bound.close()


def wait(thread: threading.Thread) -> None:
    """Wait until the server ends, so that the main thread can still receive signals."""
    while thread.is_alive():
        thread.join(_POLL_S)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise ResourceError(
            f"cannot listen on {host}:{port}: {why}. Choose another port, or --port 0 for any "
            "free one."
        ) from None
