"""How often the gate refuses a harmless addition of clean images.

    python -m benchmarks.additions --set sign_digits --images 700

A chain begins with a run on some of the images and adds 5 to 20 % of clean ones of the same kind
five times, each time with a run on the same output folder. No addition should be refused. Beside
it stands the number that a plain rule would refuse: an accuracy that is lower than that of the last
version by more than `evaluate.max_drop`, whatever chance has to do with it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import Figure

_LEAST, _MOST = 0.05, 0.20  # of the images that are there
_MAX_DROP = 0.01  # the default of evaluate.max_drop


def main() -> None:
    """Run the chains on a set and print how many additions were refused."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="sign_digits", help="folder of the photographs")
    parser.add_argument("--images", type=int, default=700, help="images of the first run")
    parser.add_argument("--threshold", type=float, default=0.6, help="accuracy that is asked for")
    parser.add_argument("--chains", type=int, default=4, help="times that all begins anew")
    parser.add_argument("--additions", type=int, default=5, help="additions of a chain")
    options = parser.parse_args()
    files = common.sample(common.data_set(options.data, options.set))
    settings = ("train.minutes=0", f"evaluate.threshold={options.threshold}")
    refused = plain = 0
    with common.workplace(options.work) as work:
        for chain in range(options.chains):
            data = work / f"photographs-{chain}"
            out = work / f"out-{chain}"
            for number, new in enumerate(_parts(files, options, chain)):
                run = common.run_imgpipe(common.copy(new, data), out, settings).summary
                print(f"{chain}.{number}, {len(new)} images: {run['verdict']}", flush=True)
                if number:
                    refused += run["status"] != "blessed" or run["push"]["status"] == "refused"
                    plain += _lower(run)
    of = f"of {options.chains * options.additions} additions to {options.images} images or more"
    common.finish(
        [
            Figure(f"{options.set}: refused", f"{refused} {of}", "≤ 1"),
            Figure("… by the difference alone", f"{plain} {of}"),
        ]
    )


def _lower(run: dict[str, Any]) -> bool:
    """Return whether the accuracy is lower than that of the last version, on the same images."""
    rulings = (run["gate"] or {"rulings": ()})["rulings"]
    compared = next((ruling for ruling in rulings if ruling["rule"] == "last_version"), None)
    print(f"    {compared and compared['text']}", flush=True)
    return compared is not None and (compared["margin"] or 0.0) < -_MAX_DROP


def _parts(files: list[Path], options: argparse.Namespace, seed: int) -> Iterator[list[Path]]:
    """Yield the images of the first run and those of each addition, drawn by chance."""
    first = options.images
    drawing = random.Random(seed)
    shuffled = list(files)
    drawing.shuffle(shuffled)
    yield shuffled[:first]
    for _ in range(options.additions):
        end = first + round(first * drawing.uniform(_LEAST, _MOST))
        yield shuffled[first:end]
        first = end


if __name__ == "__main__":
    main()
