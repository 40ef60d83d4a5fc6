"""All models of a server: access to loaded versions, and changes of the configuration.

Every request uses `acquire` (see `predict`). The config file, its polling and
HandleReloadConfigRequest use `reload`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from imgpipe.serving.server import model_configs as configs
from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.model_configs import ModelConfig
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.settings import Settings
from imgpipe.serving.server.status import Code, StatusError, invalid, listed
from imgpipe.serving.server.version import Loader, VersionState

_STOP_LOADING_S = 5.0
"""Time in seconds to wait for an unfinished load; a longer load ends by itself."""


class Core:
    """The models of a server by name.

    Args:
        loader: Function that loads a version directory.
        settings: How models are found and loaded, and the largest number of pixels of an image.

    Attributes:
        models: The current managers by name.
    """

    def __init__(self, loader: Loader, settings: Settings) -> None:
        self._loader = loader
        self._settings = settings
        # Replaced as a whole, never changed: requests read them without a lock.
        self.models: Mapping[str, ModelManager] = {}
        self._changing = threading.Lock()

    @contextmanager
    def acquire(self, spec: Spec) -> Iterator[Handle]:
        """Hold the version that `spec` selects until the block ends.

        Raises:
            StatusError: NOT_FOUND, UNAVAILABLE in its place while the server starts, or
                INVALID_ARGUMENT for a label that does not exist.
        """
        version = spec.version
        model = self.models.get(spec.name)
        if spec.label is not None:
            labels = model.config.labels if model else {}
            version = labels.get(spec.label)
            if version is None:
                raise invalid(
                    f"Unrecognized servable version label: {spec.label}. Labels of {spec.name}: "
                    f"{listed(labels)}. version_labels in --model_config_file assigns them."
                )
        with model.acquire(version) if model else nullcontext() as handle:
            if handle is None:
                raise self._absent(self._missing(spec, version))
            yield handle

    def _missing(self, spec: Spec, version: int | None) -> str:
        """Return why the version that `spec` selects does not answer, and what does."""
        which = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
        if spec.label is not None:
            which += f", for the label {spec.label}"
        reason = f"Servable not found for request: {which}"
        model = self.models.get(spec.name)
        if model is None:
            return f"{reason}. Models of this server: {listed(self.models)}."
        cause = model.trouble(version)
        if version is None:
            return f"{reason}{cause}"
        answering = ", ".join(map(str, model.available())) or "none"
        parts = [f"{reason}{cause}.", f"Versions of {spec.name} that answer: {answering}."]
        if not cause:
            parts.append(
                f"Version {version} answers once it is in the folder of the model and "
                "model_version_policy selects it."
            )
        if spec.label is not None:
            parts.append("version_labels in --model_config_file can name another version.")
        return " ".join(parts)

    def states(self, name: str, version: int | None = None) -> list[VersionState]:
        """Return the states of all known versions of a model, newest first, or of one version.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        model = self.models.get(name)
        lines = model.states() if model else []
        if version is not None:
            lines = [line for line in lines if line.version == version]
        if not lines:
            which = "any versions" if version is None else f"version {version}"
            raise self._absent(f"Could not find {which} of model {name}")
        return lines

    def starting(self) -> list[str]:
        """Return the names of the initial models that have not finished their first load.

        TensorFlow Serving opens its ports once this list is empty.
        """
        return sorted(name for name, model in self.models.items() if not model.tried)

    def _absent(self, message: str) -> StatusError:
        """Return a NOT_FOUND error, or UNAVAILABLE while the server starts, which clients retry."""
        starting = self.starting()
        if not starting:
            return StatusError(Code.NOT_FOUND, message)
        causes = ", ".join(name + self.models[name].trouble() for name in starting)
        return StatusError(
            Code.UNAVAILABLE,
            f"The server is still loading its models ({causes}). Try again later.",
        )

    def ready(self) -> bool:
        """Return whether there are models and each of them has an available version."""
        models = self.models
        return bool(models) and all(model.available() for model in models.values())

    def reload(self, wanted: Sequence[ModelConfig], wait: float = 0.0) -> None:
        """Replace the models that are served by those of `wanted`.

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
            configs.check(wanted)
            self._check_labels(wanted)
            changed = self._apply(wanted)
        end = time.monotonic() + wait
        failed = []
        for model in changed if wait > 0 else []:
            try:
                model.wait_until_available(max(end - time.monotonic(), 0.0), may_come_later=False)
            except StatusError as error:
                failed.append(f"{model.config.name}: {error.code.name}: {error.message}")
        if failed:
            raise StatusError(
                Code.UNKNOWN,
                f"{len(failed)} model(s) did not become available: {'; '.join(failed)}",
            )

    def _check_labels(self, wanted: Sequence[ModelConfig]) -> None:
        for model in wanted:
            manager = self.models.get(model.name)
            available = manager.available() if manager else []
            for label, version in model.labels.items():
                assigned = manager.config.labels.get(label) if manager else None
                may_wait = self._settings.allow_version_labels_for_unavailable_models
                if version not in available and not (may_wait and assigned in (None, version)):
                    raise StatusError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference. Load the version first, "
                        "and then assign the label; a new label may wait for its version with "
                        "--allow_version_labels_for_unavailable_models.",
                    )

    def _apply(self, wanted: Sequence[ModelConfig]) -> list[ModelManager]:
        """Serve `wanted` and return the models that are new or were changed."""
        before = self.models
        models = {}
        changed = []
        for config in wanted:
            model = before.get(config.name)
            if model is None:
                model = ModelManager(config, self._loader, self._settings)
                model.tried = bool(before)  # the server has started without it
                changed.append(model)
            elif config != model.config:
                model.update(config)
                changed.append(model)
            models[config.name] = model
        self.models = models
        for name, model in models.items():
            if name not in before:
                model.start()
        for name, model in before.items():
            if name not in models:
                # In a thread, because an unfinished load may take long and nothing waits for it.
                threading.Thread(target=model.stop, args=(_STOP_LOADING_S,), daemon=True).start()
        return changed

    def stop(self) -> None:
        """Retire every version of every model."""
        for model in self.models.values():
            model.stop(_STOP_LOADING_S)
