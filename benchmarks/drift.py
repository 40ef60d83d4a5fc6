"""How often `imgpipe drift` raises a false alarm, and whether it finds hands among flowers.

    python -m benchmarks.drift --train 60 --draws 20

A model is trained on some photographs of each class of flowers_128. Photographs that the run has
not seen are answered by it and logged as the server logs them: draws that have no photograph in
common, and a mixture with hands of rps_photos among flowers. `imgpipe drift` must not raise an
alarm for the draws, and must for the mixture. The figures name the comparisons over their limits.
"""

from __future__ import annotations

import collections
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import common
from benchmarks.common import Figure

_SETTINGS = ("evaluate.threshold=0.0", "train.minutes=0.0")
_BATCH = 32  # images of one request
_SEED = 0
_RIGHT = 0.95  # share of the draws without an alarm that is the goal


class Asker:
    """Answers images with a published version and writes the request log of a server.

    Args:
        out: Output folder of the run.
    """

    def __init__(self, out: Path) -> None:
        from imgpipe.pipeline.output import lookup
        from imgpipe.serving.server.runtime import Runtime

        published = lookup.model(out, published=True).published
        self.versions = published.folder.parent
        self._number = published.number
        self._runtime = Runtime(published.folder)

    def log(self, images: Sequence[Path], prefix: Path) -> Path:
        """Ask for all images; return the prefix of their log."""
        import numpy as np
        from tensorflow_serving.apis import predict_pb2

        from imgpipe.models import names
        from imgpipe.serving import tensors
        from imgpipe.serving.server.request_log import RequestLog
        from imgpipe.serving.server.settings import Settings

        log = RequestLog(
            Settings(
                request_log_prefix=str(prefix),
                request_log_sampling_rate=1.0,
                request_log_images=True,
            )
        )
        for start in range(0, len(images), _BATCH):
            batch = [path.read_bytes() for path in images[start : start + _BATCH]]
            response = predict_pb2.PredictResponse()
            outputs = self._runtime.answer(image_bytes=batch)
            for name, value in outputs.items():
                tensors.fill_typed(response.outputs[name], value)
            response.model_spec.name = "imgpipe"
            response.model_spec.version.value = self._number
            log.record({names.IMAGE_BYTES: np.array(batch, object)}, response, outputs)
        log.close()
        return prefix

    def judge(self, prefix: Path) -> tuple[str, list[str]]:
        """Return how the comparison ended, and the comparisons that are over their limit."""
        from imgpipe.components.example_gen.sources.request_log import LogSource
        from imgpipe.pipeline.request_drift import comparison

        result = comparison.examine(LogSource(str(prefix)), self.versions)
        requests = result["requests"]
        over = [
            f"{row['feature']} {row['distance']:.2f} > {row['limit']:.2f}"
            for row in (requests["comparisons"] if requests is not None else ())
            if row["over"]
        ]
        return result["status"], over


def chosen(flowers: Path, train: int) -> tuple[list[Path], list[Path]]:
    """Return photographs to train on, by class, and the others, in an order of chance.

    A photograph whose bytes are among those of another one is left out.
    """
    by_class: dict[str, list[Path]] = collections.defaultdict(list)
    for path in {path.read_bytes(): path for path in common.sample(flowers)}.values():
        by_class[path.parent.name].append(path)
    drawing = random.Random(_SEED)
    learned: list[Path] = []
    fresh: list[Path] = []
    for name in sorted(by_class):
        paths = sorted(by_class[name])
        drawing.shuffle(paths)
        learned += paths[:train]
        fresh += paths[train:]
    drawing.shuffle(fresh)
    return learned, fresh


def draws(fresh: Sequence[Path], count: int, size: int) -> Iterator[Sequence[Path]]:
    """Yield draws that have no photograph in common.

    Raises:
        SystemExit: There are too few photographs.
    """
    if count * size > len(fresh):
        sys.exit(f"{count} draws of {size} need {count * size} photographs; {len(fresh)} are left")
    for number in range(count):
        yield fresh[number * size : (number + 1) * size]


def main() -> None:
    """Train a model, judge the draws and the mixture, and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--train", type=int, default=60, help="photographs a class")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--size", type=int, default=100, help="photographs of a draw")
    parser.add_argument("--mixture", type=int, default=1_969, help="images of the mixture")
    parser.add_argument("--hands", type=int, default=181, help="hands among them")
    options = parser.parse_args()
    hands = common.sample(common.data_set(options.data, "rps_photos/training"), options.hands)
    learned, fresh = chosen(common.data_set(options.data, "flowers_128"), options.train)
    sys.argv = sys.argv[:1]  # TFX's Beam executors parse the arguments of the program
    print(f"machine: {common.machine()}")
    with common.workplace(options.work) as work:
        run = common.run_imgpipe(common.copy(learned, work / "flowers"), work / "out", _SETTINGS)
        print(f"trained on {len(learned)} photographs: {run.summary['verdict']}", flush=True)
        asker = Asker(work / "out")
        alarms: list[list[str]] = []
        for number, draw in enumerate(draws(fresh, options.draws, options.size)):
            status, over = asker.judge(asker.log(draw, work / f"draw-{number}" / "log"))
            print(f"draw {number}: {status}: {'; '.join(over) or '–'}", flush=True)
            alarms += [over] if status == "drift" else []
        mixed = [*fresh[: options.mixture - options.hands], *hands]
        random.Random(_SEED).shuffle(mixed)
        status, over = asker.judge(asker.log(mixed, work / "mixture" / "log"))
        print(f"mixture: {status}: {'; '.join(over) or '–'}", flush=True)
    quiet = options.draws - len(alarms)
    goal = f"at least {_RIGHT * options.draws:.0f}"
    common.finish(
        [
            Figure(f"no drift in draws of {options.size} fresh flowers", f"{quiet}", goal),
            Figure("drift in the mixture", f"{status}: {'; '.join(over)}", "drift"),
        ]
    )


if __name__ == "__main__":
    main()
