"""What is raised for a damaged ``.npz`` file, which NumPy, zipfile and zlib read together."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import Final

#: RuntimeError is raised for a compression or a version that zipfile does not know and for an
#: encrypted array, MemoryError for a shape that no memory holds.
DAMAGED: Final = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
