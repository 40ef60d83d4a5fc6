"""How often labels by chance are blessed, with the search for a network.

    python -m benchmarks.chance [--set SET] [--images N] [--draws N]

Photographs of one set are drawn, and their classes are shuffled, so that nothing can be learned. No
model of them should be blessed: neither as a run asks by itself, nor where it asks for no more than
a little above chance. Of more than 500 images, a run also tries a network.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from benchmarks import common
from benchmarks.common import Figure
from imgpipe.models.training.history import describe_tried

_ABOVE_CHANCE = 0.05  # what the accuracy has to exceed the share of a class by


def main() -> None:
    """Run the draws, and print how many of their models were blessed."""
    parser = common.parser(__doc__)
    parser.add_argument("--set", default="flowers_128", help="folder of the photographs")
    parser.add_argument("--images", type=int, default=600, help="images of a run")
    parser.add_argument("--classes", type=int, default=3, help="classes of a run")
    parser.add_argument("--draws", type=int, default=20, help="runs with other labels")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    options = parser.parse_args()
    files = common.sample(common.data_set(options.data, options.set))
    blessed = 0
    kept = 0
    with common.workplace(options.work) as work:
        for draw in range(options.draws):
            chosen = random.Random(draw).sample(files, options.images)
            data = _labelled(chosen, options.classes, work / f"photographs-{draw}")
            settings = (
                f"model.image_size={options.size}",
                f"evaluate.threshold={1 / options.classes + _ABOVE_CHANCE:.3f}",
            )
            run = common.run_imgpipe(data, work / f"out-{draw}", settings)
            search = run.summary["training"]["search"]
            blessed += run.summary["status"] == "blessed"
            kept += any(row["kept"] for row in search[1:])
            print(f"{draw}: {run.summary['verdict']}", flush=True)
            for row in search:
                print(f"    {describe_tried(row)}", flush=True)
    of = f"of {options.draws} sets of {options.images} images with labels by chance"
    common.finish(
        [
            Figure("blessed", f"{blessed} {of}", "0"),
            Figure("… for which a network was kept", f"{kept} {of}"),
        ]
    )


def _labelled(files: list[Path], classes: int, target: Path) -> Path:
    """Copy images, which are in an order of chance, to folders of classes, without their names."""
    for number, path in enumerate(files):
        folder = target / f"class_{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"{number:04}{path.suffix}")
    return target


if __name__ == "__main__":
    main()
