"""The bands and bits that a TIFF file has, of which a model is given three bands of 8 bits."""

from __future__ import annotations

import io

from PIL import TiffImagePlugin

MOST_BANDS = 4  # with more bands, as satellites write them, a file is not read
_BITS_PER_SAMPLE = 258  # TIFF 6.0, page 29
_SAMPLES_PER_PIXEL = 277  # TIFF 6.0, page 39
_BIG_TIFF = 43
_HEADER, _BIG_HEADER = 8, 16  # bytes


def bands_and_bits(data: bytes) -> tuple[int, int]:
    """Return the number of bands and the largest number of bits of each; zeros if it is no TIFF.

    Pillow opens no file with more than four bands, and says nothing of the lower bits of colours.
    """
    try:
        size = _BIG_HEADER if _BIG_TIFF in data[2:4] else _HEADER
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:size])
        with io.BytesIO(data) as file:
            file.seek(tags.next)
            tags.load(file)
        bits = tags.get(_BITS_PER_SAMPLE, (1,))
        return int(tags.get(_SAMPLES_PER_PIXEL, 1)), max(bits)
    except Exception:  # Pillow raises exceptions of any type for broken files
        return 0, 0
