"""``imgpipe-model-server``, the embedded server as a program.

It runs a ``ModelServer`` until SIGTERM, and then lets running requests finish.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgpipe.models.errors import ImgpipeError
from imgpipe.serving.server import ports
from imgpipe.serving.server.monitoring import native_messages
from imgpipe.serving.server.settings import Settings, parse

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer
    from imgpipe.serving.server.state_lines import StateLines

_POLL_S = 0.05
"""Seconds between two checks of the main thread for a signal."""
_log = logging.getLogger(__name__)


def _run_until_signalled(
    server: ModelServer, drain_seconds: float, lines: StateLines | None
) -> bool:
    """Serve until SIGTERM or SIGINT; return whether all requests have finished then.

    Otherwise threads of TensorFlow still run, and an ordinary exit would wait for them (see
    ``leave``). A second signal ends the wait at once.
    """
    # A SimpleQueue, because its ``put`` is reentrant and so may be called in a signal handler.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    stops = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: signals.put(n)) for number in stops}
    finished: list[bool] = []
    try:
        server.start()
        if lines:
            lines.listening(server)
        # The main thread never waits without a timeout: Python runs the handler of a signal only
        # when that thread is awake, and a signal just before the wait would not wake it.
        loaded = False
        while signals.empty():
            if not loaded and not server.core.starting():
                loaded = True
                _spare_collector()
            if lines:
                lines.write_changes(server)
            time.sleep(_POLL_S)
        signals.get()
        _log.info(
            "stopping; running requests have %g s to finish; a second signal stops the server at "
            "once",
            drain_seconds,
        )
        stopping = threading.Thread(
            target=lambda: finished.append(server.stop(drain_seconds)), daemon=True
        )
        stopping.start()
        while stopping.is_alive() and signals.empty():
            stopping.join(_POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if lines:
        lines.stopped(finished == [True])
    return finished == [True]


def _spare_collector() -> None:
    """Exclude the objects of TensorFlow and of the first models from Python's garbage collection.

    A request with many lists starts several collections, and each of them stopped all threads for
    a second while it visited the objects of TensorFlow.
    """
    gc.collect()
    gc.freeze()


def leave(finished: bool) -> int:
    """Return the exit code 0; exit at once, without waiting for threads, if requests were cut off.

    Args:
        finished: Whether all requests have finished.
    """
    if not finished:
        _log.warning("requests were cut off")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def run(
    settings: Settings, lines: StateLines | None = None, program: str = "imgpipe-model-server"
) -> int:
    """Serve until a signal arrives.

    Args:
        settings: The settings of the server.
        lines: Where the states of the server are written, None for nowhere.
        program: Name of the program, for messages.

    Returns:
        The exit code: 0 after a signal, 2 for wrong settings or files, 5 if a port is taken.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", stream=sys.stderr
    )
    native_messages.limit()
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    ports.raise_limit()
    try:
        native_messages.import_tensorflow()  # takes seconds: after the flags
        from imgpipe.serving.server.server import ModelServer

        server = ModelServer(settings=settings)
        return leave(_run_until_signalled(server, settings.drain_seconds, lines))
    except ImgpipeError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Serve with the flags of ``argv``; None for those of the command line."""
    return run(parse(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
