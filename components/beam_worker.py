"""Loaded by every Beam worker process: what must be there before the first function is unpickled.

TFX puts a stand-in for `tfx_bsl.arrow.sql_util` (SQL slicing, whose native part its wheels lack)
into place when it is imported. A worker unpickles TensorFlow Data Validation before that, and
StatisticsGen fails. ``--beam_plugins=imgpipe.components.beam_worker`` loads this module first. Here
Beam's file patterns are made to take folders by their names, too.
"""

from __future__ import annotations

import importlib
import sys
import types

from imgpipe.components import literal_folders

MODULE = "tfx_bsl.arrow.sql_util"


def install() -> None:
    """Put the stand-in into place where the real module cannot be imported."""
    if MODULE in sys.modules:
        return
    try:
        importlib.import_module(MODULE)
    except ImportError:
        stand_in = types.ModuleType(MODULE)
        stand_in.__getattr__ = _absent  # type: ignore[method-assign]
        sys.modules[MODULE] = stand_in


def _absent(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*arguments: object, **named: object) -> None:
        raise NotImplementedError(f"SQL slicing ({name}) is not part of this installation")

    return unavailable


install()
literal_folders.install()
