"""The versions of the model of a server.

The manager polls the base path and applies TensorFlow Serving's availability-preserving policy: a
new version is loaded and warmed up before the old one is unloaded, and the old one stays while the
new one fails. There are two deliberate differences: an incomplete directory is not loaded, and a
base path without a complete version keeps the loaded version.

Every request uses `acquire` (see `predict`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imgpipe.serving.server import storage
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.settings import ELSEWHERE, Settings
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.version import Loader, State, Version, VersionState

_log = logging.getLogger(__name__)
_MAX_ENDED = 64  # unloaded versions whose state is still told
_LEAST_PAUSE_S = 0.1
"""Where a poll fails before a retry that is due, the polls after it must not fill a core."""


_STOP_LOADING_S = 5.0
"""Time in seconds to wait for an unfinished load; a longer load ends by itself."""


class ModelManager:
    """Keeps the versions of the model in line with its base path, in a thread of its own.

    Args:
        loader: Function that loads a version directory.
        settings: The model, how many of its versions are served, how often the base path is read,
            and how often a load is tried.

    Attributes:
        name: Name of the model.
        base_path: Folder of its versions.
    """

    def __init__(self, loader: Loader, settings: Settings) -> None:
        self.name = settings.model_name
        self.base_path = settings.base_path
        self._loader = loader
        self._settings = settings
        # Replaced as a whole, never changed: requests read them without a lock.
        self._versions: dict[int, Version] = {}
        self._problem = ""
        self._settled = False
        """Whether all was done at the last poll, or waits for a retry."""
        self.tried = False
        """Whether the first load is over: a version has been available, or every one failed."""
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
        self._retire_all()

    def _retire_all(self) -> None:
        for version in self._versions.values():
            version.retire()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception as error:  # the next poll may do better; this thread must not end
                _log.error("poll of model %s: %s", self.name, error)
                _log.debug("poll of model %s", self.name, exc_info=error)
            self._stop.wait(self._pause())
        self._retire_all()  # also what was still loading when stop() gave up waiting

    def _pause(self) -> float | None:
        """Return the seconds until the next poll, or until the next attempt to load a version."""
        retries = [v.retry_at for v in self._versions.values() if v.retry_at]
        waits = [max(at - time.monotonic(), _LEAST_PAUSE_S) for at in retries]
        if self._settings.file_system_poll_wait_seconds > 0:
            waits.append(self._settings.file_system_poll_wait_seconds)
        # A longer wait, such as `math.inf`, would raise OverflowError.
        return min(*waits, threading.TIMEOUT_MAX) if waits else None

    def poll(self) -> None:
        """Read the base path once, and load and unload versions accordingly."""
        problem = ""
        paths: dict[int, Path] = {}
        looked: dict[int, Version] = {}

        def look(number: int) -> Version:
            """Look at a version once a poll, and only at those that may be served."""
            if number not in looked:
                if number not in self._versions:
                    version = Version(self.name, number, self._settings)
                    self._versions = {**self._versions, number: version}
                looked[number] = self._versions[number]
                looked[number].look(paths[number], first=not self._settled)
            return looked[number]

        def wanted() -> list[Version]:
            """Return the versions to serve now, newest first.

            One that fails to load stays among them, so that its load is tried again, and an older
            one serves in its place. No more are looked at than necessary.
            """
            chosen: list[Version] = []
            for number in sorted(paths, reverse=True):
                if sum(not version.failing for version in chosen) == self._settings.versions:
                    break
                if not look(number).missing:
                    chosen.append(looked[number])
            return chosen

        try:
            paths = storage.versions(self.base_path)
        except OSError as error:
            problem = f"base path {self.base_path} cannot be read ({error.strerror})"
        for number, version in self._versions.items():
            if number not in paths:
                version.vanish()
        if not problem and not wanted():
            why = "; ".join(f"{number}: {version.missing}" for number, version in looked.items())
            problem = f"no complete version under {self.base_path}{why and f' ({why})'}"
        self._warn_of(problem)
        # TensorFlow Serving unloads every version where there is none to serve. A folder that is
        # being replaced or mounted, or a disk out of reach, would end the service.
        while not problem and not self._stop.is_set() and self._step(wanted()):
            self._notify()
        ended = sorted(n for n, version in self._versions.items() if version.state is State.END)
        told = {*looked, *ended[-_MAX_ENDED:]}
        self._versions = {
            n: version
            for n, version in self._versions.items()
            if n in told or State.START < version.state < State.END
        }
        self._settled = True
        self.tried = self.tried or self._first_load_is_over()
        self._notify()

    def _warn_of(self, problem: str) -> None:
        # The same problem is logged once and not at every poll.
        if problem and problem != self._problem:
            stay = "; the loaded versions stay" if self.available() else ""
            _log.warning("model %s: %s%s", self.name, problem, stay)
        self._problem = problem

    def _first_load_is_over(self) -> bool:
        versions = self._versions.values()
        if self.available():
            return True
        if any(version.retry_at is not None for version in versions):
            return False
        if self._settings.file_system_poll_wait_seconds <= 0:
            return True
        return bool(versions) and self._versions[max(self._versions)].error is not None

    def _step(self, wanted: Sequence[Version]) -> bool:
        """Take one action of the availability-preserving policy; return False if none is left.

        As in core/availability_preserving_policy.cc: the lowest version that is no longer wanted is
        unloaded as soon as another one can answer, otherwise the highest wanted version is loaded.
        """
        ready = [self._versions[number] for number in reversed(self.available())]
        others = [version for version in self._versions.values() if version not in wanted]
        for version in others:
            version.give_up()
        leaving = [version for version in ready if version in others]
        if leaving and len(ready) > 1:
            leaving[0].retire()
            return True
        for version in wanted:
            if version.is_due:
                version.load(self._loader)
                return True
        return False

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def acquire(self, spec: Spec) -> Iterator[Handle]:
        """Hold the version that `spec` selects until the block ends.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        version = self._acquired(spec.version) if spec.name == self.name else None
        if version is None:
            raise self._absent(self._missing(spec))
        held, handle = version
        try:
            yield handle
        finally:
            held.release()

    def _acquired(self, number: int | None) -> tuple[Version, Handle] | None:
        """Acquire a version (None: the newest available); None if it is not available."""
        while True:
            versions = self._versions
            for candidate in sorted(versions, reverse=True) if number is None else [number]:
                version = versions.get(candidate)
                handle = version.acquire() if version else None
                if version and handle is not None:
                    return version, handle
            # If the newest version was wanted and there is one now, a swap happened meanwhile.
            swapped = number is None and self.available()
            if versions is self._versions and not swapped:
                return None

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
        answering = ", ".join(map(str, self.available())) or "none"
        newest = "" if cause else " This server answers with the newest ones in the folder."
        return f"{reason}{cause}. Versions of {spec.name} that answer: {answering}.{newest}"

    def _absent(self, message: str) -> StatusError:
        """Return a NOT_FOUND error, or UNAVAILABLE while the server starts, which clients retry."""
        if self.tried:
            return StatusError(Code.NOT_FOUND, message)
        return StatusError(
            Code.UNAVAILABLE,
            f"The server is still loading its model ({self.name}{self._trouble()}). Try again "
            "later.",
        )

    def states_of(self, spec: Spec) -> list[VersionState]:
        """Return the states of all known versions, newest first, or of the one that is selected.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        lines = self.states() if spec.name == self.name else []
        if spec.version is not None:
            lines = [line for line in lines if line.version == spec.version]
        if not lines:
            which = "any versions" if spec.version is None else f"version {spec.version}"
            raise self._absent(f"Could not find {which} of model {spec.name}")
        return lines

    def available(self) -> list[int]:
        """Return the available versions, newest first."""
        versions = self._versions
        return [n for n in sorted(versions, reverse=True) if versions[n].state is State.AVAILABLE]

    def states(self) -> list[VersionState]:
        """Return every known version, newest first; incomplete directories are in state START."""
        return [version.line for _, version in sorted(self._versions.items(), reverse=True)]

    def _trouble(self, version: int | None = None) -> str:
        """Return why `version` (None: the newest) does not answer, to follow other words."""
        asked = (line for line in self.states() if version in (None, line.version))
        return next((f": {line}" for line in asked if line.message), "")

    def wait_until_available(self, timeout: float) -> int:
        """Wait until the server has tried all versions, and one is available.

        Args:
            timeout: Time to wait in seconds, also for a base path that does not exist yet.

        Returns:
            The number of the newest available version.

        Raises:
            StatusError: Every version failed to load; DEADLINE_EXCEEDED, no version is available
                within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                available = self.available()
                lines = self.states()
                coming = any(version.coming for version in self._versions.values())
                settled = self._settled and not coming
                if available and settled:
                    return available[0]
                if settled and lines and lines[0].code and lines[0].state is State.END:
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
