"""Measures how many images a second backbones take, with random weights, beside the default one.

Speed does not depend on the weights, so that nothing is downloaded: a preset is written with the
settings of the published network, and read through the same code. The product of two large
matrices, measured in the same run, shows what the machine can compute.

Usage: `python -m benchmarks.backbones [NAME …]`, with names of `NETWORKS`; by default all.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.settings import ModelSettings

_IMAGES: Final = 32  # one batch
_ROUNDS: Final = 3  # each network takes turns with the default one, and its fastest pass counts
_MATRIX: Final = 2048  # side of the matrices that are multiplied
_SMALL: Final = {"num_layers": 12, "hidden_dim": 384, "num_heads": 6, "intermediate_dim": 1536}
_BASE: Final = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "intermediate_dim": 3072}
_SHAPE: Final = {"image_shape": (224, 224, 3)}


def _dinov2(size: dict[str, int]) -> Any:
    from keras_hub import models

    shapes = {**_SHAPE, "position_embedding_shape": (518, 518, 3)}
    return models.DINOV2Backbone(14, **size, **shapes)


def _dinov3(size: dict[str, int]) -> Any:
    from keras_hub import models

    return models.DINOV3Backbone(16, **size, **_SHAPE)


def _vit(layers: int, heads: int, width: int, patch: int = 16) -> Any:
    from keras_hub import models

    return models.ViTBackbone((224, 224, 3), patch, layers, heads, width, 4 * width)


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

    return models.SwinTransformerBackbone((224, 224, 3), 96, (2, 2, 6, 2), (3, 6, 12, 24), 7)


#: Networks by the name of the backbone; None for those that need no preset.
NETWORKS: Final[dict[str, Callable[[], Any] | None]] = {
    "efficientnet_lite0": None,
    "mobilenet_v3_large": None,
    "resnet50": None,
    "convnext_tiny": None,
    "efficientnet_v2_s": None,
    "hub:dinov2_small": lambda: _dinov2(_SMALL),
    "hub:dinov2_base": lambda: _dinov2(_BASE),
    "hub:dinov3_vit_small_lvd1689m": lambda: _dinov3(_SMALL),
    "hub:vit_base_patch16_224_imagenet21k": lambda: _vit(12, 12, 768),
    "hub:siglip_base_patch16_224": _siglip,
    "hub:clip_vit_base_patch32": _clip,
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
        converter = next(one for one in converters if getattr(one, "backbone_cls", None) is kind)
        converter(image_size=(224, 224), scale=1 / 127.5, offset=-1.0).save_to_preset(str(folder))
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

    one = tf.random.normal([_MATRIX, _MATRIX])
    times = []
    for _ in range(_ROUNDS + 1):  # the first one warms up
        started = time.perf_counter()
        tf.matmul(one, one).numpy()
        times.append(time.perf_counter() - started)
    return 2 * _MATRIX**3 / min(times[1:]) / 1e9


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS), metavar="NAME")
    names = parser.parse_args().names
    noise = np.random.default_rng(0).integers(0, 256, (_IMAGES, 224, 224, 3), dtype=np.uint8)
    images = []
    for pixels in noise:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG")
        images.append(content.getvalue())
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        default = extractor("efficientnet_lite0", Path(folder) / "default")
        seconds(default, images)
        print(
            f"{'network':<40} {'px':>4} {'MB':>6} {'images/s':>9} {'times Lite0':>12} {'GFLOPS':>7}"
        )
        for number, name in enumerate(names):
            measured = extractor(name, Path(folder) / str(number))
            seconds(measured, images)  # compiles it
            pairs = [(seconds(default, images), seconds(measured, images)) for _ in range(_ROUNDS)]
            usual, taken = (min(column) for column in zip(*pairs, strict=True))
            model = measured.build()
            megabytes = 4 * model.count_params() / 1e6
            print(
                f"{name:<40} {measured.image_size:>4} {megabytes:>6.0f} {_IMAGES / taken:>9.1f} "
                f"{taken / usual:>12.1f} {gigaflops():>7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
