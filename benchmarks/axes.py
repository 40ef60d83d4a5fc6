"""The axes of EfficientNet-Lite for covariances, and how good heads are with them and with others.

    python -m benchmarks.axes [--without SET …] [--write]

The channels of a feature map are projected to a few axes before their covariances are taken. Here,
these are the principal axes of the channels over the positions of photographs, each less its mean
over the photograph. All sets of the reference data have equal parts in them. `--write` writes those
of every variant into the package. Otherwise, heads with the axes of the package are compared with
heads on axes of all sets but the one on which they are tested, and on axes that the weights of the
network give. The figures are the accuracy and the log loss of the folds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks import common
from benchmarks.transfer import SETS, GroupedImages
from imgpipe.models import preprocess
from imgpipe.models.backbones import layer_graph
from imgpipe.models.backbones.architectures.efficientnet_lite import AXES_FILE, VARIANTS
from imgpipe.models.features.bank import BankRows
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.names.arrays import Array, Floats
from imgpipe.models.network import covariance_pooling
from imgpipe.models.network.classifier import build_features
from imgpipe.models.settings.feature_kinds import COVARIANCE, COVARIANCE_AXES
from imgpipe.models.settings.model import ModelSettings

if TYPE_CHECKING:
    import keras

_IMAGES: Final = 240  # of each set, of which axes are made
_TESTED: Final = ("rps_photos", "sign_digits", "flowers_128")
_MOST_TESTED: Final = 1200  # images of a set
_AT_ONCE: Final = 16  # images in one forward pass


class Backbone:
    """A variant of EfficientNet-Lite with ImageNet weights, whose axes can be replaced."""

    def __init__(self, name: str) -> None:
        self.settings = ModelSettings(backbone=name, features=COVARIANCE)
        self._pixels, self._maps, _ = build_features(self.settings)

    @property
    def layers(self) -> list[str]:
        """Names of the layers that compute the feature maps, the last one first."""
        return [layer_graph.layer_name(feature_map) for feature_map in self._maps]

    def covariances(self, photographs: Sequence[bytes]) -> list[Array]:
        """Return the covariances of the channels of each map, [C, C] with a trace of 1."""
        import keras

        trunk = keras.Model(self._pixels, self._maps)
        sums: list[Array] = [np.zeros((each.shape[-1],) * 2) for each in self._maps]
        for maps in self._outputs(trunk, photographs):
            for total, values in zip(sums, maps, strict=True):
                flat = values.reshape(len(values), -1, values.shape[-1])
                rows = (flat - flat.mean(axis=1, keepdims=True)).reshape(-1, values.shape[-1])
                total += rows.T @ rows
        return [total / np.trace(total) for total in sums]

    def features(self, images: Sequence[bytes], axes: Mapping[str, Floats]) -> list[Floats]:
        """Return the blocks of features [N, D] of a head: of the mean, and of each map."""
        import keras

        projections = covariance_pooling.fixed_axes(self._maps, axes)
        mean = keras.layers.GlobalAveragePooling2D()(self._maps[0])
        blocks = [mean, *covariance_pooling.pooled(self._maps, projections)]
        batches = self._outputs(keras.Model(self._pixels, blocks), images)
        return [np.concatenate(block) for block in zip(*batches, strict=True)]

    def _outputs(self, model: keras.Model, images: Sequence[bytes]) -> Iterator[list[Floats]]:
        import tensorflow as tf

        forward = tf.function(lambda pixels: model(pixels, training=False))
        for first in range(0, len(images), _AT_ONCE):
            encoded = tf.constant(list(images[first : first + _AT_ONCE]))
            pixels = preprocess.batch_decode(encoded, self.settings.size)
            yield [np.asarray(values) for values in forward(pixels)]


def principal_axes(covariances: Sequence[Sequence[Array]]) -> list[Floats]:
    """Return the first principal axes of each map, float32 [C, d], from covariances of some sets.

    The sign of an axis is that with which its largest component is positive.
    """
    axes = []
    for of_map in zip(*covariances, strict=True):
        _, vectors = np.linalg.eigh(sum(of_map))
        columns = vectors[:, ::-1][:, :COVARIANCE_AXES]
        largest = columns[np.abs(columns).argmax(axis=0), np.arange(columns.shape[1])]
        axes.append((columns * np.where(largest < 0, -1, 1)).astype(np.float32))
    return axes


def write(data: Path, without: Sequence[str]) -> None:
    """Write the axes of every variant into the package."""
    photographs = _photographs(data)
    axes: dict[str, Any] = {}
    for name in VARIANTS:
        backbone = Backbone(name)
        chosen = [key for key in photographs if key not in without]
        of_maps = principal_axes([backbone.covariances(photographs[key]) for key in chosen])
        for layer, columns in zip(backbone.layers, of_maps, strict=True):
            axes[f"{name}/{layer}"] = columns.astype(np.float16)
    np.savez_compressed(AXES_FILE, **axes)
    print(f"{AXES_FILE}: {AXES_FILE.stat().st_size:,} bytes; without {', '.join(without) or '-'}")


def compare(data: Path) -> None:
    """Print accuracy and log loss of the folds of each tested set with each kind of axes."""
    backbone = Backbone(next(iter(VARIANTS)))
    covariances = {key: backbone.covariances(value) for key, value in _photographs(data).items()}
    for name in _TESTED:
        grouped = GroupedImages.of(common.data_set(data, name), SETS[name], _MOST_TESTED)
        others = principal_axes([value for key, value in covariances.items() if key != name])
        kinds = {
            "of the weights": {},
            "of photographs of the other sets": dict(zip(backbone.layers, others, strict=True)),
            "of the package": backbone.settings.backbone_spec().axes,
        }
        for kind, axes in kinds.items():
            print(f"{name}: axes {kind}: {_judged(backbone, grouped, axes)}", flush=True)


def _judged(backbone: Backbone, grouped: GroupedImages, axes: Mapping[str, Floats]) -> str:
    blocks = backbone.features(grouped.images.images, axes)
    rows = BankRows(
        np.concatenate(blocks, axis=1).astype(np.float16),
        grouped.images.labels,
        np.zeros(len(grouped.images), np.int64),
        np.array([digest.encode() for digest in grouped.images.hashes]),
        grouped.groups,
        sizes=tuple(block.shape[1] for block in blocks),
    )
    judgement = HeadSolver(rows, grouped.images.classes, backbone.settings).judge()
    assert judgement is not None  # there are enough images for folds
    scores = judgement.scores
    return f"accuracy {scores.right.mean():.4f}, log loss {scores.losses.mean():.4f}"


def _photographs(data: Path) -> dict[str, list[bytes]]:
    """Return the photographs of which axes are made, by set."""
    photographs = {}
    for name, pattern in SETS.items():
        paths = [path for path in common.data_set(data, name).glob(pattern) if path.is_file()]
        photographs[name] = [path.read_bytes() for path in common.subset(paths, _IMAGES)]
    return photographs


def main() -> None:
    """Write the axes, or compare heads with several kinds of axes."""
    parser = common.parser(__doc__)
    parser.add_argument("--write", action="store_true", help="write the axes into the package")
    parser.add_argument(
        "--without", nargs="+", choices=SETS, default=(), metavar="SET", help="leave out sets"
    )
    options = parser.parse_args()
    if options.write:
        write(options.data, options.without)
    else:
        compare(options.data)


if __name__ == "__main__":
    main()
