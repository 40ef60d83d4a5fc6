"""Time, memory and size of the page of a run with many classes, beside those with few.

    python -m benchmarks.many_classes [--images 2500] [--classes 10 500]

As many images of drawn characters are made for each number of classes, and `imgpipe run` trains a
head on them. A class is a character, of which fonts, places, sizes, angles, colours and grounds
differ. The goal: a run with 500 classes takes at most twice as long as one with ten.
"""

from __future__ import annotations

import functools
import io
import itertools
import sys
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from benchmarks import common
from benchmarks.common import MIB, Figure, Finished

#: Fonts that come with Matplotlib.
FONTS: Final = tuple(
    f"DejaVuSans{style}.ttf"
    for style in ("", "-Bold", "-Oblique", "-BoldOblique", "Mono", "Mono-Bold", "Mono-Oblique")
)
_SIDE: Final = 160  # pixels of an image
_LOOK: Final = 24  # side in pixels of the pictures by which characters are compared
_UNLIKE: Final = 0.22  # share of the pixels in which two characters differ at least
_ANGLES: Final = 10.0  # degrees to either side
_UNEVEN: Final = 40  # difference of the colours of a ground to either side, of 255
_MEASURED: Final = ("decided", "test")
#: With 500 classes there are five images of each, of which the limits of the gate would want more.
_SETTINGS: Final = ("train.minutes=0", "gate.min_train=1", "gate.min_validation=1")


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of Matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", name), size)


def characters(count: int) -> list[str]:
    """Return characters that all fonts have and that look unlike each other.

    Raises:
        SystemExit: There are not so many.
    """
    paths = [Path(mpl.get_data_path(), "fonts", "ttf", name) for name in FONTS]
    codes = set.intersection(*(set(FT2Font(str(path)).get_charmap()) for path in paths))
    kinds = ("L", "N", "S")  # letters, numbers and symbols
    drawable = (chr(code) for code in sorted(codes))
    candidates = [
        character for character in drawable if unicodedata.category(character)[0] in kinds
    ]
    looks = np.empty((0, _LOOK * _LOOK), np.float32)
    chosen: list[str] = []
    for character in candidates:
        look = _look(character)
        if look is not None and (np.abs(looks - look).mean(axis=1) > _UNLIKE).all():
            looks = np.vstack([looks, look])
            chosen.append(character)
        if len(chosen) == count:
            return chosen
    sys.exit(f"the fonts have {len(chosen)} characters that look unlike each other, not {count}")


def _look(character: str) -> np.ndarray | None:
    """Return a small picture of a character, [pixels] from 0 to 1; None if nothing is drawn."""
    mask = _mask(character, FONTS[0], 64)
    small = mask and mask.resize((_LOOK, _LOOK), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / 255 if small else None


def _mask(character: str, name: str, size: int) -> Image.Image | None:
    """Return the shape of a character, cropped."""
    canvas = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(canvas).text((size, size), character, 255, font(name, size))
    box = canvas.getbbox()
    return canvas.crop(box) if box else None


def draw(character: str, number: int) -> bytes:
    """Return a JPEG image of a character; the same number makes the same image."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, 3) + rng.integers(-_UNEVEN, _UNEVEN, (6, 6, 3))
    small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    ground = small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    mask = _mask(character, str(rng.choice(FONTS)), int(rng.integers(90, 140)))
    if mask is None:
        raise ValueError(f"expected a character with a shape. Received: {character!r}")
    mask = mask.rotate(rng.uniform(-_ANGLES, _ANGLES), Image.Resampling.BICUBIC, expand=True)
    mask.thumbnail((_SIDE - 10, _SIDE - 10))
    room = _SIDE - np.array(mask.size)
    place = rng.integers(0, room + 1)
    box = (*place.tolist(), *(place + mask.size).tolist())
    # Light on dark or dark on light, so that the character can be seen on its ground.
    light = np.asarray(ground.crop(box)).mean() < 128
    colour = rng.integers(0, 90, 3) + (165 if light else 0)
    ground.paste(tuple(colour.tolist()), box, mask)
    out = io.BytesIO()
    ground.save(out, "JPEG", quality=85)
    return out.getvalue()


def _draw_class(folder: Path, character: str, numbers: range) -> None:
    target = folder / f"U{ord(character):04X}"
    target.mkdir(parents=True)
    for number in numbers:
        (target / f"{number:07d}.jpg").write_bytes(draw(character, number))


def draw_all(folder: Path, classes: int, images: int) -> Path:
    """Draw a folder of images for each of some characters, on all cores, and return `folder`."""
    bounds = np.linspace(0, images, classes + 1).astype(int).tolist()
    numbers = [range(*pair) for pair in itertools.pairwise(bounds)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(functools.partial(_draw_class, folder), characters(classes), numbers))
    return folder


def figures(classes: int, run: Finished) -> list[Figure]:
    """Return the figures of a run."""
    times = run.summary["timings"]["components"]
    solution = run.summary["training"]["solution"]
    accuracies = [f"{measured} {run.accuracy(measured):.3f}" for measured in _MEASURED]
    said = f"folds {solution['accuracy']:.3f} ± {solution['standard_error']:.3f}"
    accuracies.append(said)
    parts = [f"{node} {seconds:.1f}" for node, seconds in times.items() if seconds >= 1]
    page = Path(run.summary["out"], run.summary["report"]).stat().st_size / MIB
    what = f"{classes} classes"
    return [
        Figure(
            f"{what}: whole run",
            f"{run.seconds:.1f} s, {run.processor:.1f} s of processor time, "
            f"peak {run.peak_mib:.0f} MiB",
        ),
        Figure(f"{what}: seconds of the components", ", ".join(parts)),
        Figure(f"{what}: accuracy", ", ".join(accuracies)),
        Figure(f"{what}: page", f"{page:.2f} MiB"),
    ]


def main() -> None:
    """Draw the images, run imgpipe for each number of classes, and print the figures."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, default=2500, help="images of a run")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 500], metavar="N")
    options = parser.parse_args()
    print(f"machine: {common.machine()}")
    shown: list[Figure] = []
    runs: dict[int, Finished] = {}
    with common.workplace(options.work) as work:
        for classes in options.classes:
            folder = draw_all(work / f"images{classes}", classes, options.images)
            runs[classes] = common.run_imgpipe(folder, work / f"out{classes}", _SETTINGS)
            run_figures = figures(classes, runs[classes])
            for figure in run_figures:
                print(f"{figure.what}: {figure.value}", flush=True)
            shown += run_figures
    few, *others = options.classes
    for many in others:
        shown += ratios(few, runs[few], many, runs[many])
    common.finish(shown)


def ratios(few: int, run: Finished, many: int, larger: Finished) -> list[Figure]:
    """Compare a run with many classes with one with few."""
    what = f"{many} classes against {few}"
    seconds = larger.seconds / run.seconds
    processor = larger.processor / run.processor
    bank, train = (
        [ran.summary["timings"]["components"][node] for ran in (run, larger)]
        for node in ("FeatureBank", "ImageTrainer")
    )
    parts = f"FeatureBank {bank[1] / bank[0]:.2f} ×, ImageTrainer {train[1] / train[0]:.2f} ×"
    return [
        Figure(
            f"{what}: whole run",
            f"{seconds:.2f} × the time, {processor:.2f} × the processor time",
            "2 ×",
        ),
        Figure(f"{what}: components", parts),
    ]


if __name__ == "__main__":
    main()
