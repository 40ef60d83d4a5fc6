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
from pathlib import Path

from imgpipe.serving.server import storage
from imgpipe.serving.server.model_configs import ModelConfig
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.settings import Settings
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.version import Loader, State, Version, VersionState

_log = logging.getLogger(__name__)
_MAX_ENDED = 64  # unloaded versions whose state is still told
_LEAST_PAUSE_S = 0.1
"""A version whose retry is due may have no files at the moment; polling must not fill a core."""
_Look = Callable[[int], Version]


class ModelManager:
    """Keeps the versions of one model in line with its base path, in a thread of its own.

    Args:
        config: Name, base path and version policy of the model.
        loader: Function that loads a version directory.
        settings: How often the base path is read, and how often a load is tried.
    """

    def __init__(self, config: ModelConfig, loader: Loader, settings: Settings) -> None:
        self.config = config
        self._loader, self._settings = loader, settings
        # Replaced as a whole, never changed: requests read them without a lock.
        self._versions: dict[int, Version] = {}
        self._problem = ""
        self._settled: ModelConfig | None = None
        """The configuration for which all was done at the last poll, or waits for a retry."""
        self.tried = False
        """Whether the first load is over: a version has been available, or every one failed."""
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
        for version in self._versions.values():
            version.retire()

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
        retries = [v.retry_at for v in self._versions.values() if v.retry_at]
        waits = [max(at - time.monotonic(), _LEAST_PAUSE_S) for at in retries]
        if self._settings.file_system_poll_wait_seconds > 0:
            waits.append(self._settings.file_system_poll_wait_seconds)
        # A longer wait, such as ``math.inf``, would raise OverflowError.
        return min(*waits, threading.TIMEOUT_MAX) if waits else None

    def poll(self) -> None:
        """Read the base path once, and load and unload versions accordingly."""
        config = self.config
        try:
            paths = storage.versions(config.base_path)
        except OSError as error:
            # Nothing is unloaded: the disk may only be out of reach.
            self._warn_of(f"base path {config.base_path} cannot be read ({error.strerror})")
            self._forget(())
            self._settle(config)
            return
        seen: dict[int, Version] = {}

        def look(number: int) -> Version:
            """Look at a version once a poll, and only at those that may be served."""
            if number not in seen:
                seen[number] = self._look(number, paths[number])
            return seen[number]

        incomplete = [look(n) for n in config.policy.choose(paths) if look(n).missing]
        wanted = self._aspired(config, paths, look)
        nothing_asked = config.policy.asks_for_nothing
        self._forget(paths)
        if not wanted and not nothing_asked:
            # TensorFlow Serving unloads every version here. A folder that is being replaced or
            # mounted would end the service.
            why = "; ".join(f"{version.number}: {version.missing}" for version in incomplete)
            self._warn_of(f"no complete version under {config.base_path}{why and f' ({why})'}")
        else:
            self._warn_of("no version is asked for" if nothing_asked else "")
            # One action at a time, because each of them changes which one is next.
            while not self._stop.is_set() and self._step(self._aspired(config, paths, look), look):
                self._notify()
        if nothing_asked:
            self._retire_all()
        ended = sorted(n for n, v in self._versions.items() if v.state is State.END)
        forgotten = set(ended[:-_MAX_ENDED]) - set(seen)
        self._versions = {
            n: v
            for n, v in self._versions.items()
            if (v.state is not State.START or n in seen) and n not in forgotten
        }
        self._settle(config)

    def _look(self, number: int, path: Path) -> Version:
        """Look at the files of a version, which becomes known if it was not."""
        version = self._versions.get(number)
        if version is None:
            version = Version(self.config.name, number, self._settings)
            self._versions = {**self._versions, number: version}
        version.look(path, first=self._settled is None)
        return version

    def _forget(self, numbers: Collection[int]) -> None:
        """Make no further attempts to load versions without a folder."""
        for number, version in self._versions.items():
            if number not in numbers:
                version.vanish()

    def _aspired(self, config: ModelConfig, numbers: Collection[int], look: _Look) -> list[int]:
        """Return the versions to serve now.

        These are the versions that the policy selects. While one of them fails to load, they are
        joined by older versions that load.
        """
        wanted = config.policy.choose(numbers, lambda n: not look(n).missing)
        if config.policy.kind != "latest" or not any(look(n).failing for n in wanted):
            return wanted
        instead = config.policy.choose(
            numbers, lambda n: not look(n).missing and not look(n).failing
        )
        # Failed versions between them remain, so that their loads are retried.
        oldest = min(instead, default=min(numbers))
        failing = [n for n in numbers if n >= oldest and look(n).failing]
        return sorted({*wanted, *instead, *failing}, reverse=True)

    def _warn_of(self, problem: str) -> None:
        # The same problem is logged once and not at every poll.
        if problem and problem != self._problem:
            _log.warning("model %s: %s; the loaded versions stay", self.config.name, problem)
        self._problem = problem

    def _settle(self, config: ModelConfig) -> None:
        self._settled = config
        self.tried = self.tried or self._first_load_is_over(config)
        self._notify()

    def _first_load_is_over(self, config: ModelConfig) -> bool:
        versions = self._versions.values()
        if self.available():
            return True
        if any(version.retry_at is not None for version in versions):
            return False
        if self._settings.file_system_poll_wait_seconds <= 0 or config.policy.asks_for_nothing:
            return True
        return bool(versions) and self._versions[max(self._versions)].error is not None

    def _step(self, aspired: list[int], look: _Look) -> bool:
        """Take one action of the availability-preserving policy; return False if none is left."""
        for number, version in self._versions.items():
            if number not in aspired:
                version.give_up()
        ready = set(self.available())
        # As in core/availability_preserving_policy.cc: the lowest version that is no longer wanted
        # is unloaded as soon as another one can answer, otherwise the highest wanted version is
        # loaded.
        leaving = sorted(ready.difference(aspired))
        if leaving and (ready.intersection(aspired) or len(leaving) > 1):
            self._versions[leaving[0]].retire()
            return True
        for number in aspired:
            version = look(number)
            if version.is_due and not version.missing:
                self._notify()
                version.load(self._loader)
                return True
        return False

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def acquire(self, version: int | None) -> Iterator[tuple[int, Runtime]]:
        """Hold ``version`` (None: the newest available) and yield its number and runtime.

        Raises:
            StatusError: NOT_FOUND, the version is not available.
        """
        while True:
            versions = self._versions
            for number in sorted(versions, reverse=True) if version is None else [version]:
                found = versions.get(number)
                runtime = found.acquire() if found else None
                if found and runtime is not None:
                    try:
                        yield number, runtime
                    finally:
                        found.release()
                    return
            # If the newest version was wanted and there is one now, a swap happened meanwhile.
            swapped = version is None and self.available()
            if versions is self._versions and not swapped:
                raise not_found(self.config.name, version)

    def available(self) -> list[int]:
        """Return the available versions, newest first."""
        versions = self._versions
        return [n for n in sorted(versions, reverse=True) if versions[n].state is State.AVAILABLE]

    def states(self) -> list[VersionState]:
        """Return every known version, newest first; incomplete directories are in state START."""
        return [version.line for _, version in sorted(self._versions.items(), reverse=True)]

    def wait_until_available(self, timeout: float, *, may_come_later: bool = True) -> int:
        """Wait until the server has tried all configured versions, and one is available.

        Args:
            timeout: Time to wait in seconds.
            may_come_later: Whether to wait for a base path that is empty or does not exist yet.

        Returns:
            The number of the newest available version.

        Raises:
            StatusError: Every version failed to load; NOT_FOUND, there is no version to wait for;
                DEADLINE_EXCEEDED, no version is available within ``timeout`` seconds.
        """
        name, deadline = self.config.name, time.monotonic() + timeout
        with self._changed:
            while True:
                available, lines = self.available(), self.states()
                settled = self._settled is self.config and not any(
                    version.coming for version in self._versions.values()
                )
                if available and settled:
                    return available[0]
                if settled and lines and lines[0].code and lines[0].state is State.END:
                    words = f"Version {lines[0].version} of model {name} failed to load: "
                    raise StatusError(lines[0].code, words + lines[0].message)
                if settled and self._problem and not (available or lines or may_come_later):
                    raise StatusError(Code.NOT_FOUND, self._problem)
                left = deadline - time.monotonic()
                if left <= 0:
                    known = ", ".join(f"version {n.version} {n.state.name}" for n in lines)
                    raise StatusError(
                        Code.DEADLINE_EXCEEDED,
                        f"Model {name} is not available after {timeout:g} s: "
                        f"{self._problem or known or 'not looked at yet'}.",
                    )
                self._changed.wait(left)


def not_found(model: str, version: int | None) -> StatusError:
    """Return TensorFlow Serving's error for a model or version that does not exist."""
    wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
    return StatusError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")
