"""Types of arrays that several rooms share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]]
#: Pixels of images in 8 bits.
PixelValues = npt.NDArray[np.uint8]
#: Names, paths and hashes, as bytes.
Names = npt.NDArray[np.bytes_]
