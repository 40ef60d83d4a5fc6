"""The versions of one model: which should run, which do, and the way from one to the other.

Polls the base path and applies TensorFlow Serving's availability-preserving policy: the new
version is loaded and warmed up before the old one is let go, and an old one stays while the new
one fails. Two things differ on purpose: a directory that is not complete is not touched, and a
base path without any complete version keeps the last good one serving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.server.runtime import Runtime
from serving.server.servable import Loader, Servable, State, released
from serving.server.status import Code, StatusError
from serving.server.storage import VersionDirectory, list_versions

_log = logging.getLogger(__name__)
_MAX_ENDED = 64
"""Versions at END that are remembered for GetModelStatus."""


@dataclass(frozen=True)
class ModelConfig:
    """What to serve under one name. Version policies and labels will find their place here."""

    name: str
    base_path: Path
    num_versions: int = 1
    """The latest so many are served."""


@dataclass(frozen=True)
class VersionState:
    """One line of GetModelStatus."""

    version: int
    state: State
    code: int = Code.OK
    message: str = ""


class ModelManager:
    """Keeps the versions of one model in line with its base path, in a thread of its own."""

    def __init__(
        self,
        config: ModelConfig,
        loader: Loader,
        *,
        poll_seconds: float = 1.0,
        warm: bool = True,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """``poll_seconds`` 0 looks once, at the start, as file_system_poll_wait_seconds does."""
        self.config = config
        self._loader, self._warm, self._on_change = loader, warm, on_change
        self._poll_seconds = poll_seconds
        # Replaced as a whole, never changed: requests read them without a lock.
        self._servables: dict[int, Servable] = {}
        self._waiting: dict[int, VersionDirectory] = {}
        self._trouble = ""
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, name=f"versions-of-{config.name}", daemon=True
        )

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop polling and retire every version; a load under way is awaited for ``timeout`` s."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._retire_all()

    def _retire_all(self) -> None:
        for servable in self._servables.values():
            servable.retire()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # the next poll may do better; this thread must not end
                _log.exception("poll of model %s", self.config.name)
            if self._poll_seconds <= 0:
                return
            self._stop.wait(self._poll_seconds)
        self._retire_all()  # also what was still loading when stop() gave up waiting

    def poll(self) -> None:
        """Look at the base path once and do all that follows from it."""
        try:
            found = list_versions(self.config.base_path)
        except OSError as error:
            self._say(f"base path {self.config.base_path} cannot be read ({error.strerror})")
            return  # nothing is unloaded: an outage of the disk is not a wish
        complete = {number: entry for number, entry in found.items() if not entry.missing}
        self._waiting = {n: entry for n, entry in found.items() if entry.missing}
        if not complete:
            why = "; ".join(f"{n}: {entry.missing}" for n, entry in self._waiting.items())
            self._say(f"no complete version under {self.config.base_path}" + (why and f" ({why})"))
            return
        self._say("")
        self._forget_failures(found)
        newest = sorted(complete, reverse=True)[: max(self.config.num_versions, 1)]
        while not self._stop.is_set() and self._step(newest, complete):
            self._notify()

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.warning("model %s: %s; what is loaded stays", self.config.name, trouble)
        self._trouble = trouble
        self._notify()

    def _forget_failures(self, found: dict[int, VersionDirectory]) -> None:
        """Failed versions get another chance when their files changed or they came back."""
        for version, servable in self._servables.items():
            entry = found.get(version)
            same = entry is not None and entry.fingerprint == servable.directory.fingerprint
            if servable.error is not None and not same:
                servable.may_retry = True

    def _step(self, aspired: list[int], complete: dict[int, VersionDirectory]) -> bool:
        """One action of the availability-preserving policy; False when there is none left."""
        ready = {n for n, s in self._servables.items() if s.state is State.AVAILABLE}
        leaving = sorted(ready.difference(aspired))
        if leaving and (ready.intersection(aspired) or len(leaving) > 1):
            self._servables[leaving[0]].retire()
            return True
        for version in aspired:
            if self._wants_loading(version):
                servable = Servable(self.config.name, complete[version], self._warm)
                self._put(servable)
                self._notify()
                servable.load(self._loader)
                return True
        return False

    def _wants_loading(self, version: int) -> bool:
        servable = self._servables.get(version)
        if servable is None:
            return True
        return servable.state is State.END and (servable.error is None or servable.may_retry)

    def _put(self, servable: Servable) -> None:
        kept = dict(self._servables)
        ended = sorted(n for n, s in kept.items() if s.state is State.END)
        for version in ended[: max(0, len(ended) - _MAX_ENDED)]:
            del kept[version]
        kept[servable.version] = servable
        self._servables = kept

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._on_change()

    @contextmanager
    def acquire(self, version: int | None) -> Iterator[tuple[int, Runtime]]:
        """The number and runtime of ``version`` (None: the newest available), held while used.

        Raises:
            StatusError: NOT_FOUND.
        """
        while True:
            servables = self._servables
            for number in sorted(servables, reverse=True) if version is None else [version]:
                servable = servables.get(number)
                runtime = servable.acquire() if servable else None
                if servable and runtime is not None:
                    with released(servable):
                        yield number, runtime
                    return
            if servables is self._servables:  # else a swap went on meanwhile: look again
                raise not_found(self.config.name, version)

    def busy(self) -> bool:
        """Whether a request is running on any version."""
        return any(servable.references for servable in self._servables.values())

    def available(self) -> list[int]:
        """Versions that answer now, newest first."""
        servables = self._servables
        return [n for n in sorted(servables, reverse=True) if servables[n].state is State.AVAILABLE]

    def states(self) -> list[VersionState]:
        """Every known version, newest first; START are directories that are not complete yet."""
        lines = {n: VersionState(n, State.START) for n in self._waiting}
        for number, servable in self._servables.items():
            error = servable.error
            lines[number] = VersionState(
                number,
                servable.state,
                error.code if error else Code.OK,
                error.message if error else "",
            )
        return [lines[number] for number in sorted(lines, reverse=True)]

    def wait_until_available(self, timeout: float) -> int:
        """The newest available version, once there is one.

        Raises:
            StatusError: every version failed to load, or none came within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (available := self.available()):
                states = self.states()
                failed = [line for line in states if line.code]
                if failed and len(failed) == len(states):
                    line = failed[0]
                    raise StatusError(
                        line.code,
                        f"Version {line.version} of model {self.config.name} failed to load: "
                        f"{line.message}",
                    )
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StatusError(
                        Code.DEADLINE_EXCEEDED,
                        f"Model {self.config.name} is not available after {timeout:g} s: "
                        f"{self._trouble or _describe(states)}.",
                    )
                self._changed.wait(left)
        return available[0]


def _describe(states: list[VersionState]) -> str:
    return ", ".join(f"version {s.version} {s.state.name}" for s in states) or "not looked at yet"


def not_found(model: str, version: int | None) -> StatusError:
    """TensorFlow Serving's words for a model or version that is not there."""
    wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
