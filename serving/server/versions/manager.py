"""The versions of one model: which should be served, which are served, and how to get there.

The manager polls the base path and applies TensorFlow Serving's availability-preserving policy: a
new version is loaded and warmed up before the old one is unloaded, and the old one stays while the
new one fails. There are two deliberate differences: an incomplete directory is not loaded, and a
base path without a complete version keeps the loaded version.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from imgpipe.serving.server.runtimes.runtime import Runtime
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.storage import (
    Fingerprint,
    FoundVersions,
    VersionDirectory,
    VersionStore,
)
from imgpipe.serving.server.versions.config import ModelConfig
from imgpipe.serving.server.versions.remote_versions import store_of
from imgpipe.serving.server.versions.servable import Loader, LoadPolicy, Servable, State

_log = logging.getLogger(__name__)
_MAX_ENDED = 64
"""Number of versions in the state END that GetModelStatus still reports. Without a limit their list
would grow for as long as the server runs."""
_CHANGING = "its files are still changing"
_SETTLE_S = 0.5
"""Files without a manifest must be unchanged for this long, or for one poll, to be loaded."""
_LEAST_PAUSE_S = 0.1
"""A version whose retry is due may have no files at the moment; polling must not fill a core."""


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
        load: LoadPolicy | None = None,
        tflite: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a manager, which does nothing before ``start``.

        Args:
            config: Name, base path and version policy of the model.
            loader: Function that loads a version directory.
            poll_seconds: Seconds between two reads of the base path; 0 to read it once.
            load: How versions are loaded and warmed up; None for the defaults.
            tflite: Whether versions may contain ``model.tflite`` instead of a SavedModel.
            on_change: Called after each change of the state of a version.
        """
        self.config = config
        self._loader, self._load = loader, load or LoadPolicy()
        self._tflite, self._on_change = tflite, on_change
        self._poll_seconds = poll_seconds
        # Replaced as a whole, never changed: requests read them without a lock.
        self._servables: dict[int, Servable] = {}
        self._waiting: dict[int, VersionDirectory] = {}
        self._problem = ""
        self._settled: ModelConfig | None = None
        self.tried = False
        """Whether the first load is over: a version has been available, or every one failed."""
        # The files of each version that is not loaded, and since when they have been the same.
        self._first_seen: dict[int, tuple[Fingerprint | None, float]] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, name=f"versions-of-{config.name}", daemon=True
        )

    def start(self) -> None:
        """Start to poll."""
        self._thread.start()

    def update(self, config: ModelConfig) -> None:
        """Use another configuration, and read the base path at once even where polling is off."""
        kept = self.available()
        if kept and config.base_path != self.config.base_path:
            _log.warning(
                "%s: the base path is now %s, but the loaded versions %s stay those of %s, as in "
                "TensorFlow Serving; restart the server to load versions with these numbers",
                *(config.name, config.base_path, kept, self.config.base_path),
            )
        self.config = config
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Stop polling and retire every version; wait up to ``timeout`` s for a load."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._retire_all()

    def _retire_all(self) -> None:
        for servable in self._servables.values():
            servable.retire()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self.poll()
            except Exception:  # the next poll may do better; this thread must not end
                _log.exception("poll of model %s", self.config.name)
            self._wake.wait(self._pause())
        self._retire_all()  # also what was still loading when stop() gave up waiting

    def _pause(self) -> float | None:
        """Return the seconds until the next poll, or until the next attempt to load a version."""
        retries = [s.retry_at for s in self._servables.values() if s.retry_at]
        waits = [max(at - time.monotonic(), _LEAST_PAUSE_S) for at in retries]
        if self._poll_seconds > 0:
            waits.append(self._poll_seconds)
        # A longer wait, such as ``math.inf``, would raise OverflowError.
        return min(*waits, threading.TIMEOUT_MAX) if waits else None

    def poll(self) -> None:
        """Read the base path once, and load and unload versions accordingly."""
        config = self.config
        store = store_of(config.base_path, tflite=self._tflite)
        try:
            names = store.names()
        except OSError as error:
            # Nothing is unloaded: the disk may only be out of reach.
            self._keep(f"base path {config.base_path} cannot be read ({error.strerror})", {})
            self._settle(config)
            return
        self._first_seen = {n: seen for n, seen in self._first_seen.items() if n in names}
        found = FoundVersions(names, lambda n: self._examined(store, n, names[n]))
        wanted = config.policy.choose(names, found.is_complete)
        chosen = map(found.get, config.policy.choose(names))
        waiting = {entry.version: entry for entry in chosen if entry and entry.missing}
        # What is complete now waits until it is loaded.
        self._waiting = {**self._waiting, **waiting}
        nothing_asked = config.policy.asks_for_nothing
        if not wanted and not nothing_asked:
            # TensorFlow Serving unloads every version here. A folder that is being replaced or
            # mounted would end the service.
            self._waiting = waiting
            why = "; ".join(f"{n}: {entry.missing}" for n, entry in waiting.items())
            self._keep(f"no complete version under {config.base_path}{why and f' ({why})'}", names)
            self._settle(config)
            return
        self._warn_of("no version is asked for" if nothing_asked else "")
        self._forget_failures(found)
        # One action at a time, because each of them changes which one is next.
        while not self._stop.is_set() and self._step(self._aspired(config, found), found):
            self._notify()
        if nothing_asked:
            self._retire_all()
        self._waiting = waiting
        self._settle(config)

    def _keep(self, problem: str, names: Collection[int]) -> None:
        """Keep what is loaded, but make no further attempts to load what is not in ``names``."""
        for version, servable in self._servables.items():
            if version not in names:
                servable.give_up()
        self._warn_of(problem)

    def _aspired(self, config: ModelConfig, found: FoundVersions) -> list[int]:
        """Return the versions to serve now.

        These are the versions that the policy selects. While one of them fails to load, they are
        joined by older versions that load.
        """
        wanted = config.policy.choose(found.names, found.is_complete)
        if config.policy.kind != "latest" or not any(map(self._is_failing, wanted)):
            return wanted
        instead = config.policy.choose(
            found.names, lambda n: found.is_complete(n) and not self._is_failing(n)
        )
        # Failed versions between them remain, so that their loads are retried.
        oldest = min(instead, default=min(found.names))
        failing = [n for n in found.names if n >= oldest and self._is_failing(n)]
        return sorted({*wanted, *instead, *failing}, reverse=True)

    def _is_failing(self, version: int) -> bool:
        servable = self._servables.get(version)
        if servable is None or servable.may_retry:
            return False
        given_up = servable.error is not None and servable.error.code != Code.CANCELLED
        return given_up or servable.retry_at is not None

    def _examined(self, store: VersionStore, version: int, name: str) -> VersionDirectory | None:
        """Return a version's directory, marked as incomplete while its files may still change.

        The files of an available version are not read again: with a thousand versions that took
        11 % of a core. A manifest tells whether all files are there. Without one, new files that
        look complete may be partly copied, so they count as complete once they have not changed
        for a while. At the first poll they count as complete at once, and a version that fails is
        loaded again when its files change.
        """
        servable = self._servables.get(version)
        if servable is not None and servable.state is State.AVAILABLE:
            return replace(servable.directory, missing="")
        entry = store.inspect(version, name)
        if entry is None:
            return None
        if servable is not None and servable.directory.fingerprint == entry.fingerprint:
            return entry  # unchanged since its load began, so its retries go on
        seen, since = self._first_seen.get(version, (None, 0.0))
        now = time.monotonic()
        if seen != entry.fingerprint:
            self._first_seen[version] = (entry.fingerprint, now)
            since = now
        if entry.missing or entry.vouched_for or self._settled is None or self._poll_seconds <= 0:
            return entry
        # Times of files do not tell: a copy may keep those of the original.
        settled = now - since >= max(self._poll_seconds, _SETTLE_S)
        return entry if settled else replace(entry, missing=_CHANGING)

    def _warn_of(self, problem: str) -> None:
        # The same problem is logged once and not at every poll.
        if problem and problem != self._problem:
            _log.warning("model %s: %s; the loaded versions stay", self.config.name, problem)
        self._problem = problem

    def _settle(self, config: ModelConfig) -> None:
        """Note that everything for ``config`` and the files is done, or waits for a retry."""
        self._settled = config
        self.tried = self.tried or self._first_load_is_over(config)
        self._notify()

    def _first_load_is_over(self, config: ModelConfig) -> bool:
        if self.available():
            return True
        servables = self._servables.values()
        if any(servable.retry_at is not None for servable in servables):
            return False
        if self._poll_seconds <= 0 or config.policy.asks_for_nothing:
            return True
        return bool(servables) and not self._waiting and all(s.error for s in servables)

    def _forget_failures(self, found: FoundVersions) -> None:
        """Allow another attempt for failed versions whose files have changed or exist again."""
        for version, servable in self._servables.items():
            if servable.error is None and servable.retry_at is None:
                continue
            entry = found.get(version)
            if entry is None or entry.fingerprint != servable.directory.fingerprint:
                servable.may_retry = True

    def _step(self, aspired: list[int], found: FoundVersions) -> bool:
        """Take one action of the availability-preserving policy; return False if none is left."""
        for version, servable in self._servables.items():
            if version not in aspired:
                servable.give_up()
        ready = {n for n, s in self._servables.items() if s.state is State.AVAILABLE}
        # As in core/availability_preserving_policy.cc: the lowest version that is no longer wanted
        # is unloaded as soon as another one can answer, otherwise the highest wanted version is
        # loaded.
        leaving = sorted(ready.difference(aspired))
        if leaving and (ready.intersection(aspired) or len(leaving) > 1):
            self._servables[leaving[0]].retire()
            return True
        for version in aspired:
            directory = found.get(version)
            next_one = self._to_load(version, directory) if directory else None
            if next_one is not None:
                self._notify()
                next_one.load(self._loader)
                return True
        return False

    def _to_load(self, version: int, directory: VersionDirectory) -> Servable | None:
        """Return the servable of ``version`` if it must be loaded or loaded again now."""
        servable = self._servables.get(version)
        if servable is not None and not servable.may_retry:
            if servable.retry_at is not None:
                return servable if servable.retry_at <= time.monotonic() else None
            if servable.state is not State.END or self._is_failing(version):
                return None
        servable = Servable(self.config.name, directory, self._load)
        self._add(servable)
        return servable

    def _add(self, servable: Servable) -> None:
        servables = dict(self._servables)
        ended = sorted(n for n, s in servables.items() if s.state is State.END)
        for version in ended[: max(0, len(ended) - _MAX_ENDED)]:
            del servables[version]
        servables[servable.version] = servable
        self._servables = servables

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._on_change()

    @contextmanager
    def acquire(self, version: int | None) -> Iterator[tuple[int, Runtime]]:
        """Hold ``version`` (None: the newest available) and yield its number and runtime.

        Raises:
            StatusError: NOT_FOUND, the version is not available.
        """
        while True:
            servables = self._servables
            for number in sorted(servables, reverse=True) if version is None else [version]:
                servable = servables.get(number)
                runtime = servable.acquire() if servable else None
                if servable and runtime is not None:
                    try:
                        yield number, runtime
                    finally:
                        servable.release()
                    return
            # If the newest version was wanted and there is one now, a swap happened meanwhile.
            swapped = version is None and self.available()
            if servables is self._servables and not swapped:
                raise not_found(self.config.name, version)

    def busy(self) -> bool:
        """Return whether a request is running on any version."""
        return any(servable.references for servable in self._servables.values())

    def available(self) -> list[int]:
        """Return the available versions, newest first."""
        servables = self._servables
        return [n for n in sorted(servables, reverse=True) if servables[n].state is State.AVAILABLE]

    def states(self) -> list[VersionState]:
        """Return every known version, newest first; incomplete directories are in state START."""
        lines = {}
        for number, entry in self._waiting.items():
            waiting = Code.UNAVAILABLE if entry.missing else Code.OK
            lines[number] = VersionState(number, State.START, waiting, entry.missing)
        for number, servable in self._servables.items():
            error = servable.error
            code, message = (error.code, error.message) if error else (Code.OK, "")
            lines[number] = VersionState(number, servable.state, code, message)
        return [lines[number] for number in sorted(lines, reverse=True)]

    def wait_until_available(self, timeout: float, *, may_come_later: bool = True) -> int:
        """Wait until the server has tried all configured versions, and one is available.

        Args:
            timeout: Time to wait in seconds.
            may_come_later: Whether to wait for a base path that is empty or does not exist yet.

        Returns:
            The number of the newest available version.

        Raises:
            LoadFailed: Every version failed to load.
            StatusError: NOT_FOUND, there is no version to wait for; DEADLINE_EXCEEDED, no version
                is available within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                available = self.available()
                settled = self._settled is self.config
                coming = any(entry.missing == _CHANGING for entry in self._waiting.values())
                if available and settled and not coming:
                    return available[0]
                states = self.states()
                failed = [line for line in states if line.code and line.state is State.END]
                if settled and failed and len(failed) == len(states):
                    raise LoadFailed(self.config.name, failed[0])
                if settled and self._problem and not (available or states or may_come_later):
                    raise StatusError(Code.NOT_FOUND, self._problem)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise StatusError(
                        Code.DEADLINE_EXCEEDED,
                        f"Model {self.config.name} is not available after {timeout:g} s: "
                        f"{self._problem or _describe(states)}.",
                    )
                self._changed.wait(left)


class LoadFailed(StatusError):
    """Every version of a model failed; ``line`` is the newest of them."""

    def __init__(self, model: str, line: VersionState) -> None:
        super().__init__(
            line.code, f"Version {line.version} of model {model} failed to load: {line.message}"
        )
        self.line = line


def _describe(states: list[VersionState]) -> str:
    return ", ".join(f"version {s.version} {s.state.name}" for s in states) or "not looked at yet"


def not_found(model: str, version: int | None) -> StatusError:
    """Return TensorFlow Serving's error for a model or version that does not exist."""
    wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
