"""TensorFlow's profiler service, from which TensorBoard and ``tf.profiler`` collect traces."""

from __future__ import annotations

import logging
import socket

from imgpipe.serving.server.errors import PortBusy

_log = logging.getLogger(__name__)


def start(port: int) -> None:
    """Serve traces of this process on ``port`` until the process ends.

    TensorFlow opens the port on every network interface of the machine, without TLS.

    Raises:
        PortBusy: Another process listens on the port.
    """
    from tensorflow.python.profiler import profiler_v2

    # TensorFlow does not report whether it could open the port.
    with socket.socket() as probe:
        # As a server binds its port: connections of an earlier process do not block it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise PortBusy(
                f"Cannot listen on port {port} (profiler): {error.strerror}. Choose another "
                "--profiler_port."
            ) from error
    profiler_v2.start_server(port)
    _log.info("profiler on port %d of every network of this machine, without TLS", port)
