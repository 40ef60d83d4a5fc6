"""Share of the machine's matrix-multiply peak that the frozen forward pass reaches.

    python -m benchmarks.backbone

Peak and forward pass are measured in turns in one run, the best of each kept, so that a busy
machine hurts both alike. The peak is a square matrix product of the same number type, run by the
same library; operations of the network count as two for each multiply-add of a convolution.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks import common
from benchmarks.common import Figure
from models import backbones
from models.backbones import efficientnet_lite0
from models.extractor import BATCH_VIEWS, build_features, resolve_precision

_MATRIX = 2048  # rows and columns: large enough for the peak, small enough for the cache's blocks


def main() -> None:
    """One figure for each number type."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=BATCH_VIEWS)
    options = parser.parse_args()
    backbone = backbones.get(efficientnet_lite0.NAME)
    size = backbone.image_size
    shape = (options.batch, size, size, 3)
    pixels = tf.constant(np.random.default_rng(0).uniform(0, 255, shape), tf.float32)
    operations = options.batch * operations_an_image(size)
    print(f"{backbone.name}, {size} px, batch {options.batch}, {os.cpu_count()} cores")
    precisions = ["float32"]
    if resolve_precision("auto") == "bfloat16":
        precisions.append("bfloat16")
    else:
        print("bfloat16: this CPU does not multiply it natively, left out")
    figures = [
        share(precision, forward(backbone, precision, pixels), operations, options)
        for precision in precisions
    ]
    common.finish(figures, options.json)


def share(
    precision: str, passes: Callable[[], object], operations: float, options: argparse.Namespace
) -> Figure:
    """Measure one number type and its share of the peak."""
    multiply = product(precision)
    best_pass, best_product = fastest((passes, multiply), options.rounds)
    reached = operations / best_pass / 1e9
    peak = 2 * _MATRIX**3 / best_product / 1e9
    return Figure(
        f"forward pass, {precision}: share of the matmul peak of the same run",
        f"{reached / peak:.0%} ({reached:.0f} of {peak:.0f} GFLOP/s; "
        f"{1e3 * best_pass / options.batch:.2f} ms an image)",
        "≥ 50 %" if precision == resolve_precision("auto") else "",
    )


def operations_an_image(size: int) -> float:
    """Floating-point operations of one forward pass."""
    total = 0.0
    for unit in efficientnet_lite0.units():
        size = -(-size // unit.stride)
        total += 2 * math.prod(unit.kernel_shape) * size * size
    return total


def forward(
    backbone: backbones.Backbone, precision: str, pixels: tf.Tensor
) -> Callable[[], object]:
    """The forward pass as the bank runs it."""
    model = build_features(backbone, backbone.image_size, precision)
    function = tf.function(lambda x: model(x, training=False), jit_compile=False)
    return lambda: function(pixels).numpy()


def product(precision: str) -> Callable[[], object]:
    """A square matrix product of that number type."""
    left, right = (tf.cast(tf.random.normal([_MATRIX, _MATRIX]), precision) for _ in range(2))
    function = tf.function(tf.matmul, jit_compile=False)
    return lambda: function(left, right).numpy()


def fastest(tasks: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    """Seconds of the best call of each task, taken in turns after two calls to warm up."""
    best = [float("inf")] * len(tasks)
    for done in range(rounds + 2):
        for place, task in enumerate(tasks):
            started = time.perf_counter()
            task()
            if done >= 2:
                best[place] = min(best[place], time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
