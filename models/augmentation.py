"""Views of an image: view 0 is the image itself, views 1..K are random warps of it.

A view depends on the image's content hash and the view's number and on nothing else (not on the
batch, the order, the split or the thread), so the feature bank is reproducible and a stored view
stays valid. One affine warp holds all of it: rotation, shifts, shear, zoom and flip.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from models.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

#: Part of a view's content address; raise it when the same settings give other pixels.
AUGMENTATION_VERSION: Final = "1"

FILLS: Final = ("nearest", "reflect", "wrap", "constant")

_RANDOMS: Final = 7  # angle, shift x, shift y, shear, zoom x, zoom y, flip


@dataclass(frozen=True)
class ViewSpec:
    """How many augmented views a training image gets and how far they stray.

    The defaults are the course's augmentation. A range r means uniform in [-r, r].

    Attributes:
        count: Augmented views besides the clean one (K); 0 is none.
        rotation: Range in degrees.
        shifts: Range of both shifts, as a share of the side.
        shear: Range of the horizontal shift a row gets for each row of distance from the centre.
        zoom: Range about 1 of the horizontal and of the vertical scale, each drawn on its own.
        horizontal_flip: Mirror every second view, by chance.
        fill: What lies outside the image: "nearest", "reflect", "wrap" or "constant" (black).
    """

    count: int = 4
    rotation: float = 40.0
    shifts: float = 0.2
    shear: float = 0.2
    zoom: float = 0.2
    horizontal_flip: bool = True
    fill: str = "nearest"

    def __post_init__(self) -> None:
        limits = {"rotation": 180.0, "shifts": 1.0, "shear": 1.0, "zoom": 0.99}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ConfigError(f"views.{name}: expected 0 to {limit:g}. Received: {value!r}")
        if self.count < 0:
            raise ConfigError(f"views.count: expected 0 or more. Received: {self.count!r}")
        if self.fill not in FILLS:
            raise ConfigError(
                f"views.fill: expected one of {', '.join(FILLS)}. Received: {self.fill!r}"
            )

    def key(self) -> str:
        """A stable string of all that decides how a view looks; `count` is not part of it."""
        settings = {**asdict(self), "version": AUGMENTATION_VERSION}
        del settings["count"]  # the first views stay the same when more are asked for
        for name in ("rotation", "shifts", "shear", "zoom"):
            settings[name] = float(settings[name])  # 40 and 40.0 are the same warp
        return json.dumps(settings, sort_keys=True)


def seeds(hashes: Sequence[str]) -> list[int]:
    """One int64 for each image from the first 64 bits of its content hash (hex)."""
    return [int(text[:16], 16) - 2**63 for text in hashes]


def augment(
    images: tf.Tensor, hashes: tf.Tensor, view: tf.Tensor | int, spec: ViewSpec
) -> tf.Tensor:
    """The view of each image.

    Args:
        images: Float32 [N, S, S, 3].
        hashes: Int64 [N], see `seeds`.
        view: The view's number, or int64 [N] of one number for each image; 0 is the image itself.
        spec: How the views look.

    Returns:
        Float32 [N, S, S, 3].
    """
    import tensorflow as tf

    views = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(hashes))

    def warped() -> tf.Tensor:
        side = tf.cast(tf.shape(images)[1], tf.float32)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=_transforms(hashes, views, side, spec),
            output_shape=tf.shape(images)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode=spec.fill.upper(),
        )

    result = tf.cond(tf.reduce_any(views > 0), warped, lambda: tf.identity(images))
    result.set_shape(images.shape)
    return result


def _transforms(hashes: tf.Tensor, views: tf.Tensor, side: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """[N, 8]: one transform an image, each computed by itself.

    Over the whole batch at once, sine and cosine would round differently in a vector register
    than in what is left over at the end, and a view would depend on its place in the batch.
    """
    import tensorflow as tf

    return tf.map_fn(
        lambda seed: _transform(seed, side, spec),
        tf.stack([hashes, views], axis=1),
        fn_output_signature=tf.TensorSpec([8], tf.float32),
    )


def _transform(seed: tf.Tensor, side: tf.Tensor, spec: ViewSpec) -> tf.Tensor:
    """[8]: where each output pixel (x, y) comes from, as ImageProjectiveTransformV3 has it.

    input - c = Rotation · (Shear · Zoom · (output - c) + shift), c the centre, as in Keras'
    ImageDataGenerator. View 0 (second half of the seed) gets exactly the identity.
    """
    import tensorflow as tf

    draw = tf.random.stateless_uniform([_RANDOMS], seed, -1.0, 1.0, alg="philox")
    draw = tf.where(seed[1] > 0, draw, 0.0)
    angle, shift_x, shift_y, shear, zoom_x, zoom_y, flip = tf.unstack(draw)
    angle *= math.radians(spec.rotation)
    shift_x, shift_y = shift_x * spec.shifts * side, shift_y * spec.shifts * side
    shear, zoom_x, zoom_y = shear * spec.shear, 1 + zoom_x * spec.zoom, 1 + zoom_y * spec.zoom
    if spec.horizontal_flip:
        zoom_x = tf.where(flip < 0, -zoom_x, zoom_x)
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = cos * zoom_x, (cos * shear - sin) * zoom_y
    d, e = sin * zoom_x, (sin * shear + cos) * zoom_y
    centre = (side - 1) / 2
    c = centre - (a + b) * centre + cos * shift_x - sin * shift_y
    f = centre - (d + e) * centre + sin * shift_x + cos * shift_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])
