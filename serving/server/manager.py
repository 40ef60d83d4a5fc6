"""The versions of the model of a server.

The manager polls the base path and serves the newest version that can be loaded. A new version is
loaded and warmed up before the old one is retired, and the old one stays while the new one fails.
Two things differ from TensorFlow Serving: an incomplete directory is not loaded, and a base path
without a complete version keeps the loaded version.

Every request uses `acquire` (see `predict`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgpipe.serving.server import storage
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.settings import ELSEWHERE, ServerSettings
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.version import Loader, ServedVersion, State, VersionState

_log = logging.getLogger(__name__)
_MAX_ENDED = 64  # unloaded versions whose state is still told
_STOP_LOADING_S = 5.0
"""Time in seconds to wait for an unfinished load; a longer load ends by itself."""


class ModelManager:
    """Keeps the newest version below the base path loaded, in a thread of its own."""

    def __init__(self, loader: Loader, settings: ServerSettings) -> None:
        self.name = settings.model_name
        self.base_path = settings.base_path
        self._loader = loader
        self._settings = settings
        # Both are replaced as a whole, never changed: requests read them without a lock.
        self._versions: dict[int, ServedVersion] = {}
        self._serving: ServedVersion | None = None
        self._problem = ""
        self._has_polled = False
        self.tried = False
        """Whether the first load is over: a version has been available, or the newest failed."""
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, name=f"versions-of-{self.name}", daemon=True
        )

    def start(self) -> None:
        """Start to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, and retire every version."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_LOADING_S)
        self._retire_others(None)

    def _retire_others(self, kept: ServedVersion | None) -> None:
        for version in self._versions.values():
            if version is not kept:
                version.retire()

    def _run(self) -> None:
        pause = self._settings.file_system_poll_wait_seconds
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception as error:  # the next poll may do better; this thread must not end
                _log.error("poll of model %s: %s", self.name, error)
                _log.debug("poll of model %s", self.name, exc_info=error)
            # A longer wait, such as `math.inf`, would raise OverflowError.
            self._stop.wait(min(pause, threading.TIMEOUT_MAX) if pause > 0 else None)
        self._retire_others(None)  # also what was still loading when stop() gave up waiting

    def poll(self) -> None:
        """Read the base path once, and load and retire versions accordingly."""
        problem = ""
        paths: dict[int, Path] = {}
        try:
            paths = storage.versions(self.base_path)
        except OSError as error:
            problem = f"base path {self.base_path} cannot be read ({error.strerror})"
        for number, version in self._versions.items():
            if number not in paths:
                version.vanish()
        looked = self._serve_newest(paths)
        if not problem and all(version.missing for version in looked.values()):
            why = "; ".join(f"{number}: {version.missing}" for number, version in looked.items())
            problem = f"no complete version under {self.base_path}{why and f' ({why})'}"
        # TensorFlow Serving unloads every version where there is none to serve. A folder that is
        # being replaced or mounted, or a disk out of reach, would end the service.
        self._warn_of(problem)
        ended = sorted(n for n, version in self._versions.items() if version.state is State.END)
        told = {*looked, *ended[-_MAX_ENDED:]}
        self._versions = {
            n: version
            for n, version in self._versions.items()
            if n in told or State.START < version.state < State.END
        }
        self._has_polled = True
        self.tried = self.tried or self._first_load_is_over()
        self._notify()

    def _serve_newest(self, paths: dict[int, Path]) -> dict[int, ServedVersion]:
        """Load versions, the newest first, until one answers; return those that were looked at.

        One that fails is tried again at later polls, while an older one serves in its place.
        """
        looked: dict[int, ServedVersion] = {}
        for number in sorted(paths, reverse=True):
            version = self._versions.get(number) or ServedVersion(self.name, number)
            self._versions = {**self._versions, number: version}
            looked[number] = version
            version.look(
                paths[number],
                first=not self._has_polled,
                pause=self._settings.file_system_poll_wait_seconds,
            )
            if not version.missing and version.is_due and not self._stop.is_set():
                version.load(self._loader, self._settings.max_image_pixels)
            if version.state is State.AVAILABLE:
                self._serving = version
                self._retire_others(version)
                break
        return looked

    def _warn_of(self, problem: str) -> None:
        # The same problem is logged once and not at every poll.
        if problem and problem != self._problem:
            stays = "; the loaded version stays" if self.available is not None else ""
            _log.warning("model %s: %s%s", self.name, problem, stays)
        self._problem = problem

    def _first_load_is_over(self) -> bool:
        if self.available is not None or self._settings.file_system_poll_wait_seconds <= 0:
            return True
        return bool(self._versions) and self._versions[max(self._versions)].error is not None

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def acquire(self, spec: Spec) -> Iterator[Handle]:
        """Hold the version that `spec` selects until the block ends.

        If it does not answer, this is a StatusError: NOT_FOUND, or UNAVAILABLE while the server
        starts, which clients retry.
        """
        version, handle = self._acquired(spec)
        try:
            yield handle
        finally:
            version.release()

    def _acquired(self, spec: Spec) -> tuple[ServedVersion, Handle]:
        version = self._serving if spec.name == self.name else None
        while version is not None and spec.version in (None, version.number):
            handle = version.acquire()
            if handle is not None:
                return version, handle
            if version is self._serving:
                break
            version = self._serving  # a swap happened meanwhile
        raise self._absent(self._missing(spec))

    def _missing(self, spec: Spec) -> str:
        """Return why the version that `spec` selects does not answer, and what does."""
        number = spec.version
        which = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        reason = f"Servable not found for request: {which}"
        if spec.name != self.name:
            return f"{reason}. This server serves one model: {self.name}. {ELSEWHERE}"
        cause = self._trouble(number)
        if number is None:
            return f"{reason}{cause}"
        answering = "No version answers."
        if self.available is not None:
            answering = f"Version {self.available} answers, the newest one that can be loaded."
        return f"{reason}{cause}. {answering}"

    def _absent(self, message: str) -> StatusError:
        if self.tried:
            return StatusError(Code.NOT_FOUND, message)
        return StatusError(
            Code.UNAVAILABLE,
            f"The server is still loading its model ({self.name}{self._trouble()}). Try again "
            "later.",
        )

    def states_of(self, spec: Spec) -> list[VersionState]:
        """Return the states of all known versions, newest first, or of the one that is selected.

        Where there is none, this is a StatusError as of `acquire`.
        """
        lines = self.states() if spec.name == self.name else []
        if spec.version is not None:
            lines = [line for line in lines if line.version == spec.version]
        if not lines:
            which = "any versions" if spec.version is None else f"version {spec.version}"
            raise self._absent(f"Could not find {which} of model {spec.name}")
        return lines

    @property
    def available(self) -> int | None:
        """The number of the version that answers; None if there is none."""
        version = self._serving
        return version.number if version and version.state is State.AVAILABLE else None

    def states(self) -> list[VersionState]:
        """Return every known version, newest first; incomplete directories are in state START."""
        return [version.line for _, version in sorted(self._versions.items(), reverse=True)]

    def _trouble(self, version: int | None = None) -> str:
        """Return why `version` (None: the newest) does not answer, to follow other words."""
        asked = (line for line in self.states() if version in (None, line.version))
        return next((f": {line}" for line in asked if line.message), "")

    def wait_until_available(self, timeout: float) -> int:
        """Wait until the server has tried all versions; return the number of the available one.

        A base path that does not exist yet is waited for, too. A StatusError says that the newest
        version failed to load, or that none is available within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                lines = self.states()
                available = self.available
                if self._has_polled and available is not None:
                    return available
                if self._has_polled and lines and lines[0].code and lines[0].state is State.END:
                    words = f"Version {lines[0].version} of model {self.name} failed to load: "
                    raise StatusError(lines[0].code, words + lines[0].message)
                left = deadline - time.monotonic()
                if left <= 0:
                    states = ", ".join(map(str, lines))
                    raise StatusError(
                        Code.DEADLINE_EXCEEDED,
                        f"Model {self.name} is not available after {timeout:g} s: "
                        f"{self._problem or states or 'not looked at yet'}.",
                    )
                self._changed.wait(left)
