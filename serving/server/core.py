"""All models of a server: access to loaded versions, and changes of the configuration.

Every request uses ``acquire`` (see ``handle``). The config file, its polling and
HandleReloadConfigRequest use ``reload``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from imgpipe.serving.server.requests.handle import Handle, Spec
from imgpipe.serving.server.requests.limits import Limits
from imgpipe.serving.server.status import Code, StatusError, code_name, invalid
from imgpipe.serving.server.versions import config as configs
from imgpipe.serving.server.versions.config import ModelConfig, RequestLogConfig
from imgpipe.serving.server.versions.manager import (
    LoadFailed,
    ModelManager,
    VersionState,
    not_found,
)
from imgpipe.serving.server.versions.servable import Loader, LoadPolicy

_STOP_LOADING_S = 5.0
"""Time in seconds to wait for an unfinished load; a longer load ends by itself."""


@dataclass(frozen=True)
class CoreOptions:
    """Options for finding, loading and running models."""

    poll_seconds: float = 1.0
    load: LoadPolicy = field(default_factory=LoadPolicy)
    tflite: bool = False
    """Whether versions may contain ``model.tflite`` instead of a SavedModel."""
    limits: Limits = field(default_factory=Limits)
    check_method_name: bool = False
    labels_for_unavailable: bool = False
    """Whether new labels may refer to versions that are not available yet."""


class Core:
    """The models of a server by name."""

    def __init__(
        self,
        loader: Loader,
        options: CoreOptions | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._loader, self._options = loader, options or CoreOptions()
        self._on_change = on_change
        # Replaced as a whole, never changed: requests read them without a lock.
        self._models: dict[str, ModelManager] = {}
        self._labels: dict[str, Mapping[str, int]] = {}
        self._request_logs: dict[str, RequestLogConfig] = {}
        self._configs: tuple[ModelConfig, ...] = ()
        # Removed models. Some of their versions may still run requests.
        self._leaving: list[ModelManager] = []
        # The models of the first configuration: None before it, empty once they have been loaded.
        self._initial: frozenset[str] | None = None
        self._changing = threading.Lock()

    @property
    def models(self) -> Mapping[str, ModelManager]:
        """The current managers by name."""
        return self._models

    @property
    def configs(self) -> tuple[ModelConfig, ...]:
        """The current configuration of the models."""
        return self._configs

    @contextmanager
    def acquire(self, spec: Spec) -> Iterator[Handle]:
        """Hold the version that ``spec`` selects until the block ends.

        Raises:
            StatusError: NOT_FOUND, UNAVAILABLE in its place while the server starts, or
                INVALID_ARGUMENT for a label that does not exist.
        """
        version = spec.version
        if spec.label is not None:
            version = self._labels.get(spec.name, {}).get(spec.label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.label}")
        # The ExitStack keeps errors of the block itself out of the ``except`` below, which would
        # take a NOT_FOUND of the request for one of the version.
        model = self._models.get(spec.name)
        with ExitStack() as held:
            try:
                if model is None:
                    raise not_found(spec.name, version)
                number, runtime = held.enter_context(model.acquire(version))
            except StatusError as error:
                raise self._absent(error) from error
            options = self._options
            yield Handle(spec.name, number, runtime, options.limits, options.check_method_name)

    def states(self, name: str, version: int | None = None) -> list[VersionState]:
        """Return the states of all known versions of a model, newest first, or of one version.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        model = self._models.get(name)
        lines = model.states() if model else []
        if version is not None:
            lines = [line for line in lines if line.version == version]
        if not lines:
            which = "any versions" if version is None else f"version {version}"
            raise self._absent(
                StatusError(Code.NOT_FOUND, f"Could not find {which} of model {name}")
            )
        return lines

    def starting(self) -> list[str]:
        """Return the names of the initial models that have not finished their first load.

        TensorFlow Serving opens its ports once this list is empty.
        """
        if not self._initial:
            return []
        models = self._models
        names = [name for name in self._initial if name in models and not models[name].tried]
        if not names:
            self._initial = frozenset()  # later requests can skip this check
        return sorted(names)

    def _absent(self, error: StatusError) -> StatusError:
        """Return ``error``, or UNAVAILABLE while the server starts, which clients retry."""
        starting = self.starting()
        if error.code != Code.NOT_FOUND or not starting:
            return error
        return StatusError(
            Code.UNAVAILABLE,
            f"The server is still loading its models ({', '.join(starting)}). Try again later.",
        )

    def request_log(self, name: str) -> RequestLogConfig | None:
        """Return the request log of a model; None where its requests are not logged."""
        return self._request_logs.get(name)

    def ready(self) -> bool:
        """Return whether there are models and each of them has an available version."""
        models = self._models
        return bool(models) and all(model.available() for model in models.values())

    def busy(self) -> bool:
        """Return whether any version of any model runs a request."""
        return any(model.busy() for model in [*self._models.values(), *self._leaving])

    def reload(self, wanted: Sequence[ModelConfig], wait: float = 0.0) -> None:
        """Replace the models that are served by those of ``wanted``.

        Args:
            wanted: All models to serve. A model that is already served in the same way is not
                reloaded.
            wait: Seconds to wait until the new and the changed models answer; 0 does not wait. The
                others may have failed long ago, and TensorFlow Serving does not wait for them.

        Raises:
            StatusError: The change is refused and nothing has changed (INVALID_ARGUMENT,
                FAILED_PRECONDITION), or some models did not become available (UNKNOWN).
        """
        with self._changing:
            # In this order, because the first one has TensorFlow Serving's error for a platform.
            configs.check_change(self._configs, wanted)
            configs.check(wanted)
            labels = self._checked_labels(wanted)
            configs.make_log_folders(self._configs, wanted)
            changed = self._apply(wanted)
            self._labels = labels
            self._request_logs = {m.name: m.request_log for m in wanted if m.request_log}
        self._on_change()
        if wait > 0:
            self._wait(changed, wait)

    def _checked_labels(self, wanted: Sequence[ModelConfig]) -> dict[str, Mapping[str, int]]:
        for model in wanted:
            manager = self._models.get(model.name)
            available = manager.available() if manager else []
            for label, version in model.labels.items():
                known = self._labels.get(model.name, {}).get(label)
                is_new = self._options.labels_for_unavailable and known in (None, version)
                if version not in available and not is_new:
                    raise configs.label_not_available(model.name, version)
        return {model.name: model.labels for model in wanted}

    def _apply(self, wanted: Sequence[ModelConfig]) -> list[str]:
        """Serve ``wanted`` and return the names of the models that are new or were changed."""
        if self._initial is None:
            self._initial = frozenset(config.name for config in wanted)
        models: dict[str, ModelManager] = {}
        added, updated = [], []
        for config in wanted:
            model = self._models.get(config.name)
            if model is None:
                model = self._manager(config)
                added.append(model)
            elif _what_to_load(config) != _what_to_load(model.config):
                model.update(config)
                updated.append(model)
            models[config.name] = model
        removed = [model for name, model in self._models.items() if name not in models]
        self._models = models
        self._configs = tuple(wanted)
        for model in added:
            model.start()
        self._leaving = [model for model in self._leaving if model.busy()] + removed
        for model in removed:
            # In a thread, because an unfinished load may take long and nothing waits for it.
            threading.Thread(target=model.stop, args=(_STOP_LOADING_S,), daemon=True).start()
        return [model.config.name for model in added + updated]

    def _manager(self, config: ModelConfig) -> ModelManager:
        options = self._options
        return ModelManager(
            config,
            self._loader,
            poll_seconds=options.poll_seconds,
            load=options.load,
            tflite=options.tflite,
            on_change=self._on_change,
        )

    def _wait(self, names: Sequence[str], seconds: float) -> None:
        end = time.monotonic() + seconds
        failed = []
        for name in names:
            model = self._models.get(name)
            if model is None:
                continue  # removed by another change
            try:
                model.wait_until_available(max(end - time.monotonic(), 0.0), may_come_later=False)
            except LoadFailed as error:
                line = error.line
                cause = f"{code_name(line.code)}: {line.message}"
                failed.append(f"{{name: {name} version: {line.version}}} due to error: {cause}}}")
            except StatusError as error:
                failed.append(f"{{name: {name}}} due to error: {error.message}}}")
        # The unbalanced braces and the last comma are those of model_servers/server_core.cc.
        if failed:
            text = "".join(f"{line}, " for line in failed)
            raise StatusError(
                Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{text}}}"
            )

    def stop(self) -> None:
        """Retire every version of every model."""
        for model in self._models.values():
            model.stop(_STOP_LOADING_S)


def _what_to_load(config: ModelConfig) -> ModelConfig:
    """Return ``config`` without the settings that do not concern the versions."""
    return replace(config, labels={}, request_log=None)
