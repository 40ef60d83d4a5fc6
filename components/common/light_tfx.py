"""Lets a program import some of TFX's components without importing all of them.

`tfx/components/__init__.py` imports every component of TFX with its libraries: TensorFlow Model
Analysis, TensorFlow Transform, Keras Tuner, and the clients of Docker and Kubernetes. A run uses
five of these components. The body of the package is therefore executed when one of its names is
used for the first time (PEP 562). Its submodules are imported as usual.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PACKAGE = "tfx.components"
_EVALUATOR = f"{PACKAGE}.evaluator"


class _PutOff(Loader):
    """Executes a package, with Python's loader of it, when one of its names is first used."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        def attribute(name: str) -> Any:
            # Submodules have lower-case names, and TFX's components begin with a capital letter.
            if name.islower() and not name.startswith("_"):
                return _submodule(module, name)
            # Python and libraries ask modules for special names; that must not execute the body.
            if name.startswith("__") and name != "__all__":
                raise _no_attribute(module, name)
            # First of all, because modules that the body imports may ask for names, too.
            vars(module).pop("__getattr__", None)
            self._loader.exec_module(module)
            return getattr(module, name)

        vars(module)["__getattr__"] = attribute


def _submodule(package: ModuleType, name: str) -> ModuleType:
    """Return a submodule, which the package would have imported by itself."""
    full = f"{package.__name__}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:
            raise
        raise _no_attribute(package, name) from None


def _no_attribute(package: ModuleType, name: str) -> AttributeError:
    return AttributeError(f"module {package.__name__!r} has no attribute {name!r}")


class _Finder(MetaPathFinder):
    """Finds the package where Python does, and puts its execution off."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _EVALUATOR:
            _complete_tfma()
        if name != PACKAGE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PutOff(spec.loader)
        return spec


def _complete_tfma() -> None:
    """Give TFMA the messages of its configuration, which the body of TFX's package would do.

    TFMA 0.52 does not import them itself, and TFX's Evaluator uses `tfma.EvalConfig`.
    """
    import tensorflow_model_analysis as tfma
    from tensorflow_model_analysis.proto import config_pb2

    for name, message in vars(config_pb2).items():
        if name[0].isupper() and isinstance(message, type) and not hasattr(tfma, name):
            setattr(tfma, name, message)


def put_off() -> None:
    """Put the execution of the package off until one of its names is used.

    A package that is imported already stays as it is, and a second call changes nothing.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
