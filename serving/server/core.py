"""The model of a server: access to its loaded versions, and a change of the model.

Every request uses `acquire` (see `predict`). The polling of the config file and
HandleReloadConfigRequest use `reload`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from imgpipe.serving.server.manager import ModelManager
from imgpipe.serving.server.model_config import ELSEWHERE, ModelConfig
from imgpipe.serving.server.predict import Handle, Spec
from imgpipe.serving.server.settings import Settings
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.version import Loader, VersionState

_STOP_LOADING_S = 5.0
"""Time in seconds to wait for an unfinished load; a longer load ends by itself."""


class Core:
    """The model of a server.

    Args:
        config: The model.
        loader: Function that loads a version directory.
        settings: How versions are found and loaded, and the largest number of pixels of an image.

    Attributes:
        model: The versions of the model.
    """

    def __init__(self, config: ModelConfig, loader: Loader, settings: Settings) -> None:
        self._loader = loader
        self._settings = settings
        # Replaced as a whole, never changed: requests read it without a lock.
        self.model = ModelManager(config, loader, settings)
        self._changing = threading.Lock()

    @contextmanager
    def acquire(self, spec: Spec) -> Iterator[Handle]:
        """Hold the version that `spec` selects until the block ends.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        model = self._named(spec.name)
        with model.acquire(spec.version) if model else nullcontext() as handle:
            if handle is None:
                raise self._absent(self._missing(spec))
            yield handle

    def _named(self, name: str) -> ModelManager | None:
        model = self.model
        return model if name == model.config.name else None

    def _missing(self, spec: Spec) -> str:
        """Return why the version that `spec` selects does not answer, and what does."""
        number = spec.version
        which = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        reason = f"Servable not found for request: {which}"
        model = self._named(spec.name)
        if model is None:
            return f"{reason}. This server serves one model: {self.model.config.name}. {ELSEWHERE}"
        cause = model.trouble(number)
        if number is None:
            return f"{reason}{cause}"
        answering = ", ".join(map(str, model.available())) or "none"
        newest = "" if cause else " This server answers with the newest ones in the folder."
        return f"{reason}{cause}. Versions of {spec.name} that answer: {answering}.{newest}"

    def states(self, name: str, version: int | None = None) -> list[VersionState]:
        """Return the states of all known versions of a model, newest first, or of one version.

        Raises:
            StatusError: NOT_FOUND, or UNAVAILABLE in its place while the server starts.
        """
        model = self._named(name)
        lines = model.states() if model else []
        if version is not None:
            lines = [line for line in lines if line.version == version]
        if not lines:
            which = "any versions" if version is None else f"version {version}"
            raise self._absent(f"Could not find {which} of model {name}")
        return lines

    def _absent(self, message: str) -> StatusError:
        """Return a NOT_FOUND error, or UNAVAILABLE while the server starts, which clients retry."""
        model = self.model
        if model.tried:
            return StatusError(Code.NOT_FOUND, message)
        return StatusError(
            Code.UNAVAILABLE,
            f"The server is still loading its model ({model.config.name}{model.trouble()}). Try "
            "again later.",
        )

    def reload(self, wanted: ModelConfig) -> ModelManager:
        """Serve another model, or other versions of the model, and return it.

        It may still have to be loaded. A model of the same name answers meanwhile.
        """
        with self._changing:
            before = self.model
            if wanted.name == before.config.name:
                before.update(wanted)
                return before
            model = ModelManager(wanted, self._loader, self._settings)
            model.tried = before.tried
            self.model = model
            model.start()
        # In a thread, because an unfinished load may take long and nothing waits for it.
        threading.Thread(target=before.stop, args=(_STOP_LOADING_S,), daemon=True).start()
        return model

    def stop(self) -> None:
        """Retire every version."""
        self.model.stop(_STOP_LOADING_S)
