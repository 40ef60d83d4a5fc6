"""Speed of each augmentation, beside the forward pass it feeds and beside Keras' layers.

    python -m benchmarks.augmentation

Batches of 32 images of 224 pixels that are in memory already, every way as a graph of its own,
measured in turns with the best of each kept. Keras' preprocessing layers are given the same
ranges. They draw by batch and from a state of their own, so a view would depend on its neighbours;
here is what they would cost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from benchmarks import common
from benchmarks.backbone import fastest, forward
from benchmarks.common import Figure
from imgpipe.models import backbones
from imgpipe.models.augmentation import ViewSpec, augment
from imgpipe.models.backbones.architectures import efficientnet_lite0
from imgpipe.models.extractor import BATCH_VIEWS, build_features, resolve_precision

_COURSE = ViewSpec()
_STILL = ViewSpec(rotation=0, shifts=0, shear=0, zoom=0, horizontal_flip=False)
_FILL = {"fill_mode": "nearest"}
_BYTES = {"value_range": (0, 255)}

#: Keras' layers by what they do, each made anew for every way.
_KERAS: dict[str, Callable[[], keras.Layer]] = {
    "rotation": lambda: keras.layers.RandomRotation(40 / 360, **_FILL),
    "shifts": lambda: keras.layers.RandomTranslation(0.2, 0.2, **_FILL),
    "shear": lambda: keras.layers.RandomShear(x_factor=0.2, **_FILL),
    "zoom": lambda: keras.layers.RandomZoom(0.2, 0.2, **_FILL),
    "flip": lambda: keras.layers.RandomFlip("horizontal"),
    "both flips": lambda: keras.layers.RandomFlip("horizontal_and_vertical"),
    "brightness": lambda: keras.layers.RandomBrightness(0.2, **_BYTES),
    "contrast": lambda: keras.layers.RandomContrast(0.2, **_BYTES),
    "saturation": lambda: keras.layers.RandomSaturation((0.35, 0.65), **_BYTES),
    "hue": lambda: keras.layers.RandomHue((0.0, 0.1), **_BYTES),
    "erasing": lambda: keras.layers.RandomErasing(0.5, (0.02, 0.3), **_BYTES),
}
_SEVEN = ("rotation", "shifts", "shear", "zoom", "flip")
_COLOURS: dict[str, Any] = {
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.3,
    "hue": 0.05,
    "erasing": 0.3,
}

#: What is measured: our settings, and Keras' layers for the same, one after the other.
_WAYS: dict[str, tuple[ViewSpec, tuple[str, ...]]] = {
    "the course's seven (default)": (_COURSE, _SEVEN),
    "rotation 40": (replace(_STILL, rotation=40), ("rotation",)),
    "shifts 0.2": (replace(_STILL, shifts=0.2), ("shifts",)),
    "shear 0.2": (replace(_STILL, shear=0.2), ("shear",)),
    "zoom 0.2": (replace(_STILL, zoom=0.2), ("zoom",)),
    "both flips": (replace(_STILL, horizontal_flip=True, vertical_flip=True), ("both flips",)),
    "scale 0.5": (replace(_STILL, scale=0.5), ()),
    **{
        f"course + {name} {value}": (replace(_COURSE, **{name: value}), (*_SEVEN, name))
        for name, value in _COLOURS.items()
    },
    "course + all colours and erasing": (replace(_COURSE, **_COLOURS), (*_SEVEN, *_COLOURS)),
}


def main() -> None:
    """One figure for each way, all measured in turns."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    backbone = backbones.get(efficientnet_lite0.NAME)
    size = backbone.image_size
    generator = np.random.default_rng(0)
    pixels = tf.constant(generator.uniform(0, 255, (BATCH_VIEWS, size, size, 3)), tf.float32)
    hashes = tf.constant(generator.integers(-(2**62), 2**62, BATCH_VIEWS))
    model = build_features(backbone, size, resolve_precision("auto"))
    tasks = {"forward pass": forward(model, pixels)}
    for name, (spec, layers) in _WAYS.items():
        tasks[name] = _ours(pixels, hashes, spec)
        if layers:
            tasks[f"Keras: {name}"] = _keras(pixels, [_KERAS[layer]() for layer in layers])
    best = dict(zip(tasks, fastest(tuple(tasks.values()), options.rounds), strict=True))
    rates = {name: BATCH_VIEWS / seconds for name, seconds in best.items()}
    common.finish([_figure(name, rates) for name in ("forward pass", *_WAYS)], options.json)


def _ours(pixels: tf.Tensor, hashes: tf.Tensor, spec: ViewSpec) -> Callable[[], object]:
    function = tf.function(lambda x: augment(x, hashes, 1, spec), jit_compile=False)
    return lambda: function(pixels).numpy()


def _keras(pixels: tf.Tensor, layers: Sequence[keras.Layer]) -> Callable[[], object]:
    chain = keras.Sequential(layers)
    function = tf.function(lambda x: chain(x, training=True), jit_compile=False)
    return lambda: function(pixels).numpy()


def _figure(name: str, rates: dict[str, float]) -> Figure:
    whole = rates["forward pass"]
    if name == "forward pass":
        return Figure(f"forward pass, {resolve_precision('auto')}", f"{whole:.0f} images/s")
    value = f"{rates[name]:.0f} images/s, {whole / rates[name]:.2f} of a forward pass"
    theirs = rates.get(f"Keras: {name}")
    if theirs:
        value += f"; Keras' layers {theirs:.0f} images/s, ours {rates[name] / theirs:.1f} times"
    return Figure(f"augmentation, {name}", value)


if __name__ == "__main__":
    main()
