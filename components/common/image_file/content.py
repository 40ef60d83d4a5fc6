"""What one encoded image contains: its header, its decode result and its measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from imgpipe.components.common.image_file.header import Header, converted_formats, pillow
from imgpipe.components.common.image_file.perceptual_hash import perceptual_hashes
from imgpipe.components.common.image_file.pixels import Measurement, Pixels, measure
from imgpipe.models import preprocess
from imgpipe.models.errors import ResourceError, first_line
from imgpipe.models.names import feature_names as names
from imgpipe.serving.refused_image import in_words, reason

_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes


@dataclass(frozen=True)
class Content(Header):
    """What depends on the bytes of a file alone, and not on its name, its label or its split.

    The size is that of the decoded pixels, or of the header when the file was not decoded.

    Attributes:
        decode_error: Why the serving op cannot decode the file, "" when it can.
        damage: Sign that the pixels of a readable file are wrong; "" for none.
        figures: Values by measurement, rounded to 32 bits as an Example stores them; empty when
            the file was not decoded.
        perceptual_hash: Perceptual hashes, None when the file was not decoded.
    """

    decode_error: str = ""
    damage: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    perceptual_hash: bytes | None = field(default=None, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether the pixels were decoded and measured."""
        return bool(self.figures)

    def measured(self, pixels: Pixels, measurements: Iterable[Measurement]) -> Content:
        """Return this content with the size, measurements and perceptual hashes of its pixels."""
        height, width = pixels.values.shape[:2]
        return dataclasses.replace(
            self,
            width=width,
            height=height,
            decode_error="",
            figures=measure(pixels, measurements),
            perceptual_hash=perceptual_hashes(pixels),
        )

    def rewritten(
        self, data: bytes, measurements: Iterable[Measurement], alpha: np.ndarray | None = None
    ) -> Content:
        """Return this content with the pixels of a file that replaces the one that was found.

        Args:
            data: The new encoded file.
            measurements: What is measured.
            alpha: The alpha channel of the file that was found, as for `Pixels`.

        Returns:
            The content with the new measurements, or with `decode_error` and without measurements
            when the serving op cannot decode the new file.
        """
        values, error = decode(data)
        if values is None:
            return dataclasses.replace(self, decode_error=error, figures={}, perceptual_hash=None)
        return self.measured(Pixels(values, alpha), measurements)

    def without_pixels(self) -> Content:
        """Return the content without most measurements, of which memory holds many."""
        kept = {name: value for name, value in self.figures.items() if name == names.COLOUR}
        return dataclasses.replace(self, figures=kept, perceptual_hash=None)


def decode(data: bytes) -> tuple[np.ndarray | None, str]:
    """Decode an encoded image as the served model does.

    Returns:
        (pixels as uint8 [H, W, 3], ""), or (None, why the file is refused).

    Raises:
        ResourceError: There is not enough memory.
    """
    import tensorflow as tf

    if not data:
        return None, reason(data)
    try:
        with tf.device("cpu"):
            return preprocess.decode(tf.constant(data)).numpy(), ""
    except tf.errors.ResourceExhaustedError as error:
        raise _no_memory(error) from error
    except tf.errors.OpError as error:
        return None, in_words(first_line(error), [data], converted_formats())


def alpha_channel(data: bytes, kind: str, mode: str) -> np.ndarray | None:
    """Read the alpha channel of an encoded file.

    Args:
        data: The encoded file.
        kind: Pillow's name of the file format.
        mode: Pillow's mode.

    Returns:
        uint8 [H, W], or None when there is no alpha channel or it cannot be read.

    Raises:
        ResourceError: There is not enough memory.
    """
    import tensorflow as tf

    # The transparency of a palette is in the chunk tRNS, before the pixels (PNG 3rd edition, 5.6).
    chunk = kind == "PNG" and b"tRNS" in data[: max(data.find(b"IDAT"), 0)]
    if mode not in _WITH_ALPHA and kind != "GIF" and not chunk:
        return None
    try:
        if kind == "PNG":  # Pillow ignores the transparent colour of 16 bits per channel
            with tf.device("cpu"):
                return np.asarray(tf.io.decode_png(tf.constant(data), channels=4)[..., 3])
        with pillow(data) as image:
            # Opening a file does not decode it, so that opaque files take little time.
            if mode not in _WITH_ALPHA and "transparency" not in image.info:
                return None
            return np.asarray(image.convert("RGBA").getchannel("A"))
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise _no_memory(error) from error
    except Exception:  # Pillow's plugins raise exceptions of any type for broken files
        return None


def _no_memory(error: BaseException) -> ResourceError:
    """Return the error of an image that may well be decoded another time."""
    return ResourceError(
        f"there is not enough memory to decode an image ({first_line(error)}). End other programs, "
        "or lower judge.pixel_limit, and run again"
    )
