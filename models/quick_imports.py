"""Imports large libraries without Python's garbage collector.

TensorFlow, TFX and their libraries create a million objects that stay until the process ends. While
they are imported, the collector would visit these objects again and again, which takes a third of
the time of the imports.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_LARGE = "tensorflow"


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Turn the collector off in the block, and exempt all objects from it that exist at its end.

    Nothing is changed where TensorFlow is already imported, so that a program that calls imgpipe
    again and again goes on collecting its own objects.
    """
    if _LARGE in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
