"""Set-up of a Beam worker process, which must happen before the first function is unpickled.

The wheels of TFX lack the native part of `tfx_bsl.arrow.sql_util` (SQL slicing), and TFX installs
a stub for that module when it is imported. A worker unpickles TFDV and TFMA before it imports TFX,
and would fail. `--beam_plugins=imgpipe.components.common.beam.beam_worker` makes each worker load
this module first.
"""

from __future__ import annotations

import importlib
import sys
import types

MODULE = "tfx_bsl.arrow.sql_util"


def install() -> None:
    """Install the stub unless the real module can be imported."""
    try:
        importlib.import_module(MODULE)
    except ImportError:
        stub = types.ModuleType(MODULE)
        stub.__getattr__ = _missing_attribute  # type: ignore[method-assign]
        sys.modules[MODULE] = stub


def _missing_attribute(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)

    def unavailable(*arguments: object, **named: object) -> None:
        raise NotImplementedError(f"SQL slicing ({name}) is not part of this installation")

    return unavailable


install()
