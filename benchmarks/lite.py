"""LiteRT files of a run beside its SavedModel: size, accuracy, images a second.

    python -m benchmarks.lite

One ``imgpipe run`` on cats_dogs makes and judges all of them; accuracies are its own, of the same
validation images. Speed is of pixels that are decoded and resized already, measured in turns in
one process, the best of each kept: the SavedModel in a session as TensorFlow Serving runs it, and
LiteRT with an interpreter of one thread for each core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import common
from benchmarks.backbone import fastest
from benchmarks.common import Figure, Finished
from imgpipe.models import litert, preprocess
from imgpipe.models.served_model import Served

_SETTINGS = ("export.lite=['float16', 'int8']",)
_FEW = ("split.validation=0.3", "gate.min_validation=1")  # for a quick look
_MODEL = "SavedModel, float32"


def main() -> None:
    """One run, then the race."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="photographs to run on (default: all)")
    parser.add_argument("--pictures", type=int, default=128, help="put to each, every round")
    parser.add_argument("--batch", type=int, default=32, help="of the SavedModel")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    photographs = common.data_set(options.data, "cats_dogs")
    print(f"machine: {common.machine()}")
    with common.workplace(options.work) as work:
        settings = _SETTINGS + (_FEW if options.images else ())
        if options.images:
            photographs = common.copy(
                common.sample(photographs, options.images), work / "cats_dogs"
            )
        run = common.run_imgpipe(photographs, work / "out", settings)
        print(run.summary["verdict"])
        if not run.summary["push"]["path"]:
            sys.exit("nothing was pushed, so there is nothing to measure")
        version = Path(run.summary["push"]["path"])
        pixels = _pixels(photographs, options.pictures, run.summary["model"]["image_size"])
        rates = race(version, pixels, options.batch, options.rounds)
        figures = [*_figures(run, version, rates), _components(run)]
    common.finish(figures, options.json)


def _pixels(folder: Path, count: int, size: int) -> np.ndarray:
    """Uint8 [count, S, S, 3] of some photographs."""
    paths = common.sample(folder, count)
    return np.stack([preprocess.whole_pixels(path.read_bytes(), size).numpy() for path in paths])


def race(version: Path, pixels: np.ndarray, batch: int, rounds: int) -> dict[str, float]:
    """Images a second of the SavedModel and of each LiteRT file of a pushed version."""
    served = Served(str(version), "serving_pixels")

    def by_session() -> None:
        for start in range(0, len(pixels), batch):
            served.run(pixels=pixels[start : start + batch])

    runners: dict[str, Callable[[], object]] = {_MODEL: by_session}
    models = []
    for kind, file in litert.FILES.items():
        if (version / file).is_file():
            models.append(litert.LiteModel((version / file).read_bytes()))
            runners[kind] = _by_interpreters(models[-1], pixels)
    seconds = fastest(tuple(runners.values()), rounds)
    served.close()
    for model in models:
        model.close()
    return {name: len(pixels) / spent for name, spent in zip(runners, seconds, strict=True)}


def _by_interpreters(model: litert.LiteModel, pixels: np.ndarray) -> Callable[[], object]:
    return lambda: model.probabilities(pixels)


def _figures(run: Finished, version: Path, rates: dict[str, float]) -> list[Figure]:
    """A row for the SavedModel, and one for each kind that was asked for."""
    saved = ("saved_model.pb", "variables/*")
    size = sum(path.stat().st_size for pattern in saved for path in version.glob(pattern)) / 1e6
    exports = run.summary["lite"]
    images = exports[litert.INT8]["images"]
    accuracy = run.accuracy("validation")
    figures = [
        Figure(
            f"cats_dogs: {_MODEL}",
            f"{size:.1f} MB, accuracy {accuracy:.4f} of {images}, {rates[_MODEL]:.0f} images/s",
        )
    ]
    for kind, export in exports.items():
        if kind not in rates:
            figures.append(Figure(f"cats_dogs: LiteRT {kind}", f"not blessed: {export['why']}"))
            continue
        ratio = rates[kind] / rates[_MODEL]
        figures.append(
            Figure(
                f"cats_dogs: LiteRT {kind}",
                f"{export['bytes'] / 1e6:.1f} MB, accuracy {export['accuracy']:.4f} "
                f"(same answer on {export['agreement']:.1%}), {rates[kind]:.0f} images/s, "
                f"{ratio:.2f} × the SavedModel's",
                "≤ 0.5 points lost",
            )
        )
    return figures


def _components(run: Finished) -> Figure:
    seconds = run.summary["timings"]["components"]["LiteExporter"]
    return Figure("conversion and judgement of both files", f"{seconds:.1f} s of the run")


if __name__ == "__main__":
    main()
