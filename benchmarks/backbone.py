"""Share of the machine's peak rate of matrix products that the frozen forward pass reaches.

    python -m benchmarks.backbone [NAME] [--weights FILE] [--width W] [--cut LAYER] [--size PX]

The peak and the forward pass are measured in turns in one run. The best time of each is used, so
that other work on the machine affects both alike. The peak is that of a square matrix product of
the same number type in the same library. A multiply-add of a convolution counts as two operations.
Networks other than the default have random weights unless a file is given.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.models import backbones
from imgpipe.models.backbones.architectures import efficientnet_lite0
from imgpipe.models.features.extractor import BATCH_VIEWS, build_features, resolve_precision

MATRIX = 2048  # rows and columns: large enough for the peak, small enough for the cache's blocks


def main() -> None:
    """Measure each number type and print the figures."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("name", nargs="?", default=efficientnet_lite0.NAME, metavar="NAME")
    parser.add_argument("--weights", default="", metavar="FILE")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--cut", default="", metavar="LAYER")
    parser.add_argument("--size", type=int, default=0, help="pixels; 0 is the network's own size")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=BATCH_VIEWS)
    options = parser.parse_args()
    default = "imagenet" if options.name == efficientnet_lite0.NAME else "none"
    weights = options.weights or default
    backbone = backbones.get(options.name, weights, cut=options.cut, width=options.width)
    size = options.size or backbone.image_size
    print(f"{backbone.name}, {size} px, batch {options.batch}, {os.cpu_count()} cores")
    precisions = ["float32"]
    if resolve_precision("auto") == "bfloat16":
        precisions.append("bfloat16")
    else:
        print("bfloat16 is not measured, because this CPU does not multiply it natively")
    figures = [measure(backbone, size, precision, options) for precision in precisions]
    common.finish(figures)


def measure(
    backbone: backbones.Backbone, size: int, precision: str, options: argparse.Namespace
) -> Figure:
    """Measure the share of the peak for one number type."""
    shape = (options.batch, size, size, 3)
    pixels = tf.constant(np.random.default_rng(0).uniform(0, 255, shape), tf.float32)
    model = build_features(backbone, size, precision)
    tasks = [forward(model, pixels), product(precision)]
    best_pass, best_product = fastest(tasks, options.rounds)
    reached = options.batch * operations_an_image(model) / best_pass / 1e9
    peak = 2 * MATRIX**3 / best_product / 1e9
    is_default = backbone.name == efficientnet_lite0.NAME
    return Figure(
        f"{backbone.name}: forward pass, {precision}: share of the matmul peak of the same run",
        f"{reached / peak:.0%} ({reached:.0f} of {peak:.0f} GFLOP/s; "
        f"{1e3 * best_pass / options.batch:.2f} ms an image)",
        "≥ 50 %" if is_default and precision == resolve_precision("auto") else "",
    )


def operations_an_image(model: keras.Model) -> float:
    """Count the floating-point operations of the convolutions in one forward pass."""
    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.SeparableConv2D):
            height, width = layer.output.shape[1:3]
            kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
            total += sum(2 * math.prod(kernel.shape) for kernel in kernels) * height * width
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            height, width = layer.output.shape[1:3]
            total += 2 * math.prod(layer.kernel.shape) * height * width
    return total


def forward(model: keras.Model, pixels: tf.Tensor) -> Callable[[], object]:
    """Return a function that runs the forward pass as the feature bank does."""
    function = tf.function(lambda x: model(x, training=False), jit_compile=False)
    return lambda: function(pixels).numpy()


def product(precision: str) -> Callable[[], object]:
    """Return a function that computes a square matrix product of this number type."""
    left, right = (tf.cast(tf.random.normal([MATRIX, MATRIX]), precision) for _ in range(2))
    function = tf.function(tf.matmul, jit_compile=False)
    return lambda: function(left, right).numpy()


def fastest(tasks: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the seconds of the best call of each task; two calls to warm up do not count."""
    best = [float("inf")] * len(tasks)
    for done in range(rounds + 2):
        for place, task in enumerate(tasks):
            started = time.perf_counter()
            task()
            if done >= 2:  # the first calls trace the function and allocate its buffers
                best[place] = min(best[place], time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
