"""The pixels of Pillow images as the serving op decodes them from a file: upright, with 8 bits.

The client converts the images that a program gives it, and the inspection those that only Pillow
reads, so that a model is asked as it was trained.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

#: Formats that are turned. MPO files are those of cameras with a second image for previews; a
#: converted or resized image has no format, but still the Exif orientation of its file. AVIF files
#: have the turn of their container there, which no decoder of TensorFlow reads.
_TURNED = ("JPEG", "MPO", "AVIF", None)
_SIXTEEN_BITS = 65535  # the largest value


def upright(image: Image.Image) -> Image.Image:
    """Turn an image by its Exif orientation, as `preprocess.decode` does with TensorFlow.

    Files of other formats than JPEG and AVIF stay as they are stored, and so does an image with a
    broken Exif block.
    """
    if image.format not in _TURNED:
        return image
    if "xmp" in image.info:  # Pillow would look for an orientation there too
        image = image.copy()
        del image.info["xmp"]
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # parts of Pillow raise exceptions of any type for broken blocks
        return image


def eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB, 16-bit grey as the serving op does. Pillow would clip it.

    Raises:
        ValueError: The pixels have more than 16 bits or a fraction, so that black and white are
            not known.
    """
    if image.mode == "F":
        raise ValueError("the pixels are floating-point numbers; scale them to 8 bits")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > _SIXTEEN_BITS:
        raise ValueError(
            f"the pixels are between {grey.min()} and {grey.max()}; scale them to 8 or 16 bits"
        )
    return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
