"""A contact sheet: one row for each image, first the image itself, then its augmented views.

The pixels are those that the feature bank gives to the backbone, with the same decoding, the same
seeds and the same graph. Only if the sheet is smaller than the backbone's input are the views
shrunk, as the last step.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import augmentation, preprocess
from imgpipe.models.augmentation import ViewSpec

if TYPE_CHECKING:
    from PIL import Image

_PAPER, _INK, _GAP = (255, 255, 255), (60, 66, 74), 4  # pixels
_TEXT: Final = 12  # height of a letter in pixels; a line is 1.5 times as high


def view_pixels(
    image: bytes, content_hash: str, spec: ViewSpec, image_size: int
) -> npt.NDArray[np.uint8]:
    """Return the image itself and all its augmented views.

    Args:
        image: The encoded image.
        content_hash: SHA-256 (hex) of the encoded image, which seeds the views.
        spec: Settings of the views and their number.
        image_size: Side S in pixels at which the backbone sees the image.

    Returns:
        The views, uint8 [1 + count, S, S, 3].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not an image that the op can decode.
    """
    import tensorflow as tf

    count = 1 + spec.count
    pixels = preprocess.decode_and_resize(tf.constant(image), image_size)
    views = _graph(spec, image_size)(
        tf.repeat(pixels[None], count, 0),
        tf.repeat(tf.constant(augmentation.seeds([content_hash]), tf.int64), count),
        tf.range(count, dtype=tf.int64),
    )
    return tf.cast(tf.round(tf.clip_by_value(views, 0.0, 255.0)), tf.uint8).numpy()


@functools.lru_cache(maxsize=1)  # one sheet is drawn at a time
def _graph(spec: ViewSpec, image_size: int) -> Any:
    """Return `augment` as a graph, which is traced once for a sheet."""
    import tensorflow as tf

    return tf.function(
        lambda pixels, seeds, views: augmentation.augment(pixels, seeds, views, spec),
        autograph=False,
        jit_compile=False,
        input_signature=[
            tf.TensorSpec([None, image_size, image_size, 3], tf.float32),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.int64),
        ],
    )


def draw(rows: Sequence[tuple[str, npt.NDArray[np.uint8]]], side: int) -> Image.Image:
    """Draws the sheet.

    Args:
        rows: Caption and views, uint8 [1 + count, S, S, 3], of each image; all have the same number
            of views.
        side: Side of a view on the sheet in pixels; with S, every pixel is visible.

    Returns:
        The sheet as an RGB image.

    Raises:
        ValueError: There are no rows, or their numbers of views differ.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows:
        raise ValueError("a contact sheet needs at least one image. Received: none")
    font = ImageFont.load_default(_TEXT)
    line, columns = _TEXT * 3 // 2, len(rows[0][1])
    step = side + _GAP
    sheet = Image.new(
        "RGB", (columns * step + _GAP, line + len(rows) * (step + line) + _GAP), _PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for column in range(columns):
        text = f"view {column}" if column else "clean"
        pen.text((_GAP + column * step, 2), _fitting(text, side, font), _INK, font)
    for number, (caption, views) in enumerate(rows):
        top = line + number * (step + line)
        for column, view in enumerate(views):
            cell = Image.fromarray(view)
            if side != cell.width:
                cell = cell.resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(cell, (_GAP + column * step, top))
        pen.text((_GAP, top + side + 1), _fitting(caption, columns * step - _GAP, font), _INK, font)
    return sheet


def _fitting(text: str, width: int, font: Any) -> str:
    """Return the end of the text that fits into `width` pixels.

    Letters that the font lacks become "?".
    """
    text = text.encode("latin-1", "replace").decode("latin-1")  # the letters of Pillow's own font
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:  # the end of a path tells images apart
        text = text[1:]
    return "..." + text


def png(sheet: Image.Image) -> bytes:
    """Return a sheet as the content of a PNG file.

    Args:
        sheet: The sheet that `draw` returned.
    """
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
