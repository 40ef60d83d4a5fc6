"""The embedded server as a program, `imgpipe serve`.

It runs a `ModelServer` until SIGTERM, and then lets running requests finish. Programs that start
it can read its states as JSON lines.
"""

from __future__ import annotations

import datetime
import gc
import json
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.models.machine.process import quick_imports
from imgpipe.models.machine.system import limit_kept_memory, raise_open_files
from imgpipe.serving import decoder_lines
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.writer import LineHandler, Writer

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer

#: Seconds between two checks of the main thread for a signal.
_POLL_S = 0.05
#: Limit of open files, more than the server needs: the usual one of 1,024 is for `select`. Some
#: systems allow a billion, and selectors allocate memory for all of them.
_OPEN_FILES = 65_536
_KEPT_BYTES = 8 << 20
"""Size of a block of memory that is given back when it is freed. A photograph's computation has few
of this size: its time was the same."""
_NEVER_CALLED = ("keras", "googleapiclient", "scipy")
"""Packages that TensorFlow imports where they are, and a server never calls: with what they import
themselves, 1.5 s and 200 MB."""
_LAST_LINES_S = 1.0
"""Seconds for the last lines of the log."""
_log = logging.getLogger(__name__)


StateName: TypeAlias = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


class _StateLine(TypedDict):
    schema: SchemaNumber
    time: Annotated[str, "Time in UTC, ISO 8601."]


class ListeningLine(_StateLine):
    """The first line, which says where the server listens."""

    event: Annotated[Literal["listening"], "The server has started."]
    grpc: Annotated[str, "HOST:PORT of gRPC."]
    rest: Annotated[str | None, "URL of the REST interface; null without one."]
    page: Annotated[str | None, "URL of the page; null without one."]
    models: Annotated[dict[str, str], "Folders of versions by name of the model."]


class VersionLine(_StateLine):
    """A line for each version that has entered another state."""

    event: Annotated[Literal["version"], "A version has entered another state."]
    model: Annotated[str, "Name of the model."]
    version: Annotated[int, "Number of the version."]
    state: Annotated[
        StateName,
        "The state of the version, in TensorFlow Serving's words; `AVAILABLE` means that it "
        "answers requests.",
    ]
    error: Annotated[str | None, "Why the version is not available; null without an error."]


class StoppedLine(_StateLine):
    """The last line."""

    event: Annotated[Literal["stopped"], "The server has stopped."]
    finished: Annotated[bool, "Whether all requests had been answered."]


ServerLine: TypeAlias = ListeningLine | VersionLine | StoppedLine


class StateLines:
    """Writes one JSON object a line for each change of a server.

    After `write` raised OSError, no further line is written, and the server goes on.
    """

    def __init__(self, write: Callable[[str], object] | None) -> None:
        self._write = write
        self._written: dict[tuple[str, int], tuple[str, str]] = {}

    def listening(self, server: ModelServer) -> None:
        """Write the addresses of a server that has started."""
        rest = server.rest_target if server.rest_port > 0 else None
        self._write_line(
            {
                "schema": SCHEMA,
                "time": _now(),
                "event": "listening",
                "grpc": server.target,
                "rest": rest,
                "page": f"{rest}/" if rest and server.shows_page else None,
                "models": {server.model.name: str(server.model.base_path)},
            }
        )

    def write_changes(self, server: ModelServer) -> None:
        """Write the versions whose state has changed since the last call."""
        name = server.model.name
        for status in server.model.states():
            state = (status.state.name, status.message)
            if self._written.get((name, status.version)) == state:
                continue
            self._written[name, status.version] = state
            self._write_line(
                {
                    "schema": SCHEMA,
                    "time": _now(),
                    "event": "version",
                    "model": name,
                    "version": status.version,
                    "state": cast(StateName, status.state.name),
                    "error": status.message or None,
                }
            )

    def stopped(self, finished: bool) -> None:
        """Write that the server has stopped, and whether all requests had finished."""
        self._write_line(
            {"schema": SCHEMA, "time": _now(), "event": "stopped", "finished": finished}
        )

    def _write_line(self, line: ServerLine) -> None:
        if self._write is None:
            return
        try:
            self._write(json.dumps(line) + "\n")
        except OSError as error:
            self._write = None
            _log.error("the states of the server are no longer written: %s", error.strerror)


def _now() -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return now.replace("+00:00", "Z")


def _run_until_signalled(server: ModelServer, drain_seconds: float, lines: StateLines) -> bool:
    """Serve until SIGTERM, SIGINT, SIGQUIT or SIGHUP; return whether all requests finish then.

    A second signal ends the wait for them at once. SIGUSR1 and SIGUSR2, with which programs ask for
    new log files or a reload, are ignored: the log goes to standard error.
    """
    # A SimpleQueue, because its `put` is reentrant and so may be called in a signal handler.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    stops = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as with nohup
        stops.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: signals.put(n)) for number in stops}
    ignored = (signal.SIGUSR1, signal.SIGUSR2)
    before |= {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    finished: list[bool] = []
    try:
        server.start()
        lines.listening(server)
        # The main thread never waits without a timeout: Python runs the handler of a signal only
        # when that thread is awake, and a signal just before the wait would not wake it.
        loaded = False
        while signals.empty():
            if not loaded and server.model.tried:
                loaded = True
                # A request with many lists starts several garbage collections, and each of them
                # stopped all threads for a second while it visited the objects of TensorFlow.
                gc.collect()
                gc.freeze()
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
    lines.stopped(finished == [True])
    return finished == [True]


def _import_tensorflow() -> None:
    """Import TensorFlow without the messages that its libraries write at every log level.

    The libraries write some messages while they are loaded. CUDA writes an error when TensorFlow
    first lists the GPUs of a machine that has none, so the GPUs are listed here as well.
    """
    if "tensorflow" in sys.modules:
        return
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # as in a container with a read-only file system
        # TensorFlow imports a module for tests that asks for the folder. The server writes nothing
        # there.
        tempfile.tempdir = os.sep
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    hidden = [name for name in _NEVER_CALLED if name not in sys.modules]
    try:
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]
        with quick_imports():
            import tensorflow as tf

        tf.config.list_physical_devices("GPU")
    finally:
        for name in hidden:
            del sys.modules[name]
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def run(settings: ServerSettings, write_states: Callable[[str], object] | None = None) -> None:
    """Serve until a signal arrives.

    Args:
        settings: The settings of the server.
        write_states: Writes a line of `StateLines`; None for nowhere.

    Raises:
        ConfigError: The model or a setting cannot be used.
        ResourceError: A port is taken, or threads are missing.
    """
    writer = Writer()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname).1s %(message)s",
        handlers=[LineHandler(writer, sys.stderr)],
    )
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    # gRPC's Python part logs each header that is not UTF-8, with a traceback.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    raise_open_files(_OPEN_FILES)
    limit_kept_memory(_KEPT_BYTES)
    _import_tensorflow()  # takes seconds: after the flags
    from imgpipe.serving.server.server import ModelServer

    server = ModelServer(settings=settings, writer=writer)
    lines = StateLines(write_states)
    with decoder_lines.dropped():
        finished = _run_until_signalled(server, settings.drain_seconds, lines)
    if not finished:
        _log.warning("requests were cut off")
    writer.close(_LAST_LINES_S)
    if not finished:
        # Threads of TensorFlow still run, and an ordinary exit would wait for them.
        sys.stdout.flush()
        os._exit(0)
