"""Measures how many images a second backbones take, with random weights, beside the default one.

    python -m benchmarks.backbones [NAME …]

The names are those of `NETWORKS`, by default all, which takes about 5 minutes on two cores.
Speed does not depend on the weights, so that nothing is downloaded: a preset is written with the
settings of the published network, and read through the same code. A product of two large matrices,
which takes turns with the networks, shows what the machine can compute. The share of it counts two
operations for each multiplication of a convolution or a matrix of weights.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from benchmarks import common
from imgpipe.models.backbones import layer_graph
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings.model import ModelSettings

_IMAGES: Final = 16  # one batch; networks are not faster with 32
_ROUNDS: Final = 3  # each network takes turns with the default one, and its fastest pass counts
_SIDE: Final = 224  # of the images of presets, in pixels
_MATRIX: Final = 2048  # side of the matrices that are multiplied
_SMALL: Final = {"num_layers": 12, "hidden_dim": 384, "num_heads": 6, "intermediate_dim": 1536}
_BASE: Final = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "intermediate_dim": 3072}
_IMAGE: Final = (_SIDE, _SIDE, 3)
_SHAPE: Final = {"image_shape": _IMAGE}


def _dinov2(size: dict[str, int]) -> Any:
    from keras_hub import models

    shapes = {**_SHAPE, "position_embedding_shape": (518, 518, 3)}
    return models.DINOV2Backbone(14, **size, **shapes)


def _dinov3(size: dict[str, int]) -> Any:
    from keras_hub import models

    return models.DINOV3Backbone(16, **size, **_SHAPE)


def _deit() -> Any:
    from keras_hub import models

    return models.DeiTBackbone(_IMAGE, 16, 12, 6, 384, 1536)


def _siglip() -> Any:
    from keras_hub import models

    text = models.SigLIPTextEncoder(64, 32, 32, 1, 2, 64, max_sequence_length=8)
    return models.SigLIPBackbone(models.SigLIPVisionEncoder(16, **_BASE, **_SHAPE), text)


def _clip() -> Any:
    from keras_hub import models

    text = models.CLIPTextEncoder(64, 32, 32, 1, 2, 64, max_sequence_length=8)
    return models.CLIPBackbone(models.CLIPVisionEncoder(32, **_BASE, **_SHAPE), text, 32)


def _swin() -> Any:
    from keras_hub import models

    return models.SwinTransformerBackbone(_IMAGE, 96, (2, 2, 6, 2), (3, 6, 12, 24), 7)


#: The networks of the table in docs/training.md, by the name of the backbone; None for those that
#: need no preset.
NETWORKS: Final[dict[str, Callable[[], Any] | None]] = {
    "efficientnet_lite0": None,
    "mobilenet_v3_large": None,
    "resnet50": None,
    "convnext_tiny": None,
    "efficientnet_v2_s": None,
    "hub:dinov2_small": lambda: _dinov2(_SMALL),
    "hub:dinov2_base": lambda: _dinov2(_BASE),
    "hub:dinov3_vit_small_lvd1689m": lambda: _dinov3(_SMALL),
    "hub:clip_vit_base_patch32": _clip,
    "hub:siglip2_base_patch16_224": _siglip,
    "hub:deit_small_distilled_patch16_224_imagenet": _deit,
    "hub:swin_tiny_patch4_window7_224": _swin,
}


def extractor(name: str, folder: Path) -> FeatureExtractor:
    """Return an extractor with random weights, after writing its preset into a folder."""
    build = NETWORKS[name]
    if build is not None:
        import keras_hub

        network = build()
        kind = type(network)
        network.save_to_preset(str(folder))
        converters = vars(keras_hub.layers).values()
        converter = next(
            member for member in converters if getattr(member, "backbone_cls", None) is kind
        )
        converter(image_size=(_SIDE, _SIDE), scale=1 / 127.5, offset=-1.0).save_to_preset(
            str(folder)
        )
        name = f"hub:{folder}"
    settings = ModelSettings(backbone=name, weights="none", freeze="all", features="average")
    return FeatureExtractor(settings)


def seconds(extract: FeatureExtractor, images: list[bytes]) -> float:
    """Return the seconds of a pass of all images."""
    started = time.perf_counter()
    extract.extract(images, ["0"] * len(images), [[0]] * len(images))
    return time.perf_counter() - started


def gigaflops() -> float:
    """Return what a product of two matrices in float32 reaches, in 10⁹ operations a second."""
    import tensorflow as tf

    matrix = tf.random.normal([_MATRIX, _MATRIX])
    started = time.perf_counter()
    tf.matmul(matrix, matrix).numpy()
    return 2 * _MATRIX**3 / (time.perf_counter() - started) / 1e9


class Speed(NamedTuple):
    """How fast a network is, beside the default one and a product of matrices.

    Attributes:
        images: Images a second.
        usual: Images a second of the default network.
        peak: What the machine computes at most, in 10⁹ operations a second.
    """

    images: float
    usual: float
    peak: float


def measure(measured: FeatureExtractor, default: FeatureExtractor, images: list[bytes]) -> Speed:
    """Return the speed of the fastest of several passes."""
    seconds(measured, images)  # compiles it
    taken = []
    usual = []
    peaks = []
    for _ in range(_ROUNDS):
        usual.append(seconds(default, images))
        taken.append(seconds(measured, images))
        peaks.append(gigaflops())
    return Speed(len(images) / min(taken), len(images) / min(usual), max(peaks))


def _photographs() -> list[bytes]:
    """Return encoded images of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, _SIDE, _SIDE, 3), dtype=np.uint8)
    images = []
    for pixels in noise:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG")
        images.append(content.getvalue())
    return images


def main() -> None:
    """Print a line for each network."""
    parser = common.parser(__doc__, data=False)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    names = parser.parse_args().names
    images = _photographs()
    print(f"machine: {common.machine()}")
    print(
        f"{'network':<46} {'px':>4} {'MB':>5} {'images/s':>9} {'times Lite0':>12} "
        f"{'GFLOPS of matmul':>17} {'share':>6}"
    )
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        default = extractor("efficientnet_lite0", Path(folder) / "default")
        seconds(default, images)
        gigaflops()
        for number, name in enumerate(names):
            measured = extractor(name, Path(folder) / str(number))
            speed = measure(measured, default, images)
            network = measured.build()
            megabytes = 4 * network.count_params() / 1e6
            reached = 2 * layer_graph.multiplications(network.layers) * speed.images / 1e9
            print(
                f"{name:<46} {measured.image_size:>4} {megabytes:>5.0f} {speed.images:>9.1f} "
                f"{speed.usual / speed.images:>12.1f} {speed.peak:>17.0f} "
                f"{reached / speed.peak:>6.0%}",
                flush=True,
            )
    print(f"machine, at the end: {common.machine()}")


if __name__ == "__main__":
    main()
