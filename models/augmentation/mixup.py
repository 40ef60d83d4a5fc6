"""MixUp and CutMix: examples of a batch are mixed in pairs, and their labels likewise.

The functions have no state: the same batch and seed give the same mixture, so training is
repeatable. Keras has layers of these names, but their random state is a variable, so they cannot be
given a seed for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.errors import ConfigError
from imgpipe.models.limits import STRICT

if TYPE_CHECKING:
    import tensorflow as tf

_PIXELS_RANK: Final = 4
_ORDER, _SHARE, _OTHER, _CENTRE, _CHOICE = range(5)  # numbers of the seeds, one for each draw


@dataclass(frozen=True, config=STRICT)
class Mixing:
    """How strongly training examples are mixed.

    The share of the partner is drawn from Beta(a, a). With a = 1, every share is equally likely;
    with less, most examples keep nearly all of themselves or nearly nothing. With both on, each
    batch is mixed by one of the two.
    """

    mixup: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="MixUp: training examples blended in pairs. Strength: the parameter a of "
        "Beta(a, a); 0 turns it off.",
    )
    cutmix: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0,
        description="CutMix: a rectangle from another training image. Strength: the parameter a of "
        "Beta(a, a); 0 turns it off. Only where layers below the pooling are trained.",
    )


def mix(
    inputs: tf.Tensor,
    one_hot: tf.Tensor,
    seed: tf.Tensor,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes the examples of a batch in pairs.

    Args:
        inputs: Inputs of the network, float [N, ...]; CutMix needs [N, H, W, C].
        one_hot: Labels, float [N, classes], whose rows sum to 1.
        seed: Seed of the mixture, int64 [2], such as (train.seed, step).
        mixup: The alpha of Zhang et al. 2018; 0 turns MixUp off.
        cutmix: The alpha of Yun et al. 2019; 0 turns CutMix off. When both are on, each batch is
            mixed by one of the two, which is drawn at random.

    Returns:
        Inputs and labels of the same shapes and types.

    Raises:
        ConfigError: CutMix is on and the inputs have no height and width, or an alpha is out of
            range.
    """
    import tensorflow as tf

    Mixing(mixup, cutmix)  # raises an error when a value is out of range
    if cutmix and inputs.shape.rank != _PIXELS_RANK:
        raise ConfigError(
            "views.cutmix: expected images or feature maps [N, H, W, C] to cut rectangles from. "
            f"Received: {inputs.shape}. Use views.mixup for pooled features"
        )
    if not (mixup or cutmix):
        return inputs, one_hot
    seed = tf.cast(seed, tf.int64)
    count = tf.shape(one_hot)[0]
    order = tf.random.experimental.stateless_shuffle(tf.range(count), _seed(seed, _ORDER))

    def blended() -> tuple[tf.Tensor, tf.Tensor]:
        share = _shares(seed, count, mixup)
        return _blended(inputs, order, share), _blended(one_hot, order, share)

    def cut() -> tuple[tf.Tensor, tf.Tensor]:
        return _cutmix(inputs, one_hot, order, _shares(seed, count, cutmix), seed)

    if not cutmix:
        return blended()
    if not mixup:
        return cut()
    first = tf.random.stateless_uniform([], _seed(seed, _CHOICE), alg="philox") < 0.5
    return tf.cond(first, blended, cut)


def _seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")


def _shares(seed: tf.Tensor, count: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draws from Beta(alpha, alpha) the share [N] that each example keeps of itself.

    The computation uses float64, because with a small alpha both gamma variates are often too small
    for float32.
    """
    import tensorflow as tf

    own, partner = (  # X / (X + Y) of two gamma variates is a Beta variate
        tf.random.stateless_gamma(
            [count], _seed(seed, number), tf.constant(alpha, tf.float64), dtype=tf.float64
        )
        for number in (_SHARE, _OTHER)
    )
    total = own + partner  # 0 if both are too small even for float64; the example is then kept
    return tf.cast(tf.where(total > 0, own / tf.where(total > 0, total, 1.0), 1.0), tf.float32)


def _blended(values: tf.Tensor, order: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return [N, ...]: each row times its share [N], plus the rest of its partner."""
    import tensorflow as tf

    ones = tf.ones(values.shape.rank - 1, tf.int32)
    share = tf.cast(tf.reshape(share, tf.concat([[-1], ones], 0)), values.dtype)
    return share * values + (1 - share) * tf.gather(values, order)


def _cutmix(
    inputs: tf.Tensor, one_hot: tf.Tensor, order: tf.Tensor, share: tf.Tensor, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace a rectangle of each image, cut off at the edges, by that of its partner.

    The rectangle has the area 1 - share before it is cut off. The labels are mixed by the area that
    remains visible.
    """
    import tensorflow as tf

    count, height, width, _ = tf.unstack(tf.shape(inputs))
    centre = tf.random.stateless_uniform([2, count], _seed(seed, _CENTRE), alg="philox")
    half = tf.sqrt(1 - share) / 2
    rows, columns = (
        _within(length, middle, half)
        for length, middle in zip((height, width), tf.unstack(centre), strict=True)
    )
    inside = rows[:, :, None] & columns[:, None, :]
    mixed = tf.where(inside[..., None], tf.gather(inputs, order), inputs)
    visible = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), [1, 2])
    return mixed, _blended(one_hot, order, visible)


def _within(length: tf.Tensor, middle: tf.Tensor, half: tf.Tensor) -> tf.Tensor:
    """Return which pixels lie within `half` of `middle`, bool [N, length].

    `half` and `middle` are shares of the length, float [N].
    """
    import tensorflow as tf

    positions = (tf.range(length, dtype=tf.int32) * 2 + 1) / (2 * length)  # centres of the pixels
    return tf.abs(tf.cast(positions, tf.float32)[None] - middle[:, None]) < half[:, None]
