"""Which parts of file names the pictures confirm as families, on sets whose families are known.

    python -m benchmarks.families_by_pictures DATA [--draws 1000]

DATA has the folders horses_or_humans, rps_cgi_28, rps_photos, cats_dogs, sign_digits, flowers_large
and flowers_128. Three tables are printed:

* the families of each set, and how many pairs of images of one true family are in one, where the
  names tell the true family;
* films of six frames, which are photographs of cats that are cut, turned and mirrored, by the form
  of their names;
* how often photographs with names by chance get families.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from imgpipe.components.common.image_file.pixels import Pixels, perceptual_hashes
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.image_filter.copies.search import hash_table
from imgpipe.components.image_filter.placement import families
from imgpipe.components.image_filter.placement.families import FoundFamilies

#: Sets, with the regular expression of their true families where there are any.
_SETS: Final = {
    "horses_or_humans": r"([a-z]+\d+)-",
    "rps_cgi_28": r"([a-z]+\d+[a-z\d-]*)-\d+\.",
    "rps_photos": r"([^/]*?)\.rf\.",
    "cats_dogs": "",
    "sign_digits": "",
    "flowers_large": "",
    "flowers_128": "",
}
_FORMS: Final = (
    "frame{frame:03d}_film{film}.jpg",
    "film{film}_frame{frame:03d}",
    "Фильм {film} кадр {frame}.jpg",
    "{frame}–{film:02d}.png",
    "take {film}/{frame:04d}.jpg",
    "{chance}_{film}_{frame}.jpg",
    "IMG_{film}_mp4-{frame}_jpg.rf.{chance}.jpg",
    "{number:05d}.jpg",
)
_FRAMES: Final = 6


def found(paths: Sequence[str], pictures: Sequence[bytes], folder: int = -2) -> FoundFamilies:
    """Find the families of files whose class is a folder, by its place in their path."""
    rows = [ImageRow(path, path.split("/")[folder], image_hash=path) for path in paths]
    for row in rows:
        row.source_label = row.label
    return families.find(rows, *hash_table(paths, pictures))


def kept(image: Image.Image) -> bytes:
    """Return what the inspection keeps of an image."""
    return perceptual_hashes(Pixels(np.asarray(image.convert("RGB"))))


def together(family_of: dict[str, str], truth: dict[str, str]) -> float:
    """Return the share of the pairs of a true family that are in one family."""
    true = Counter(truth.values())
    both = Counter((truth[path], family) for path, family in family_of.items() if path in truth)
    pairs = sum(count * (count - 1) for count in true.values())
    return sum(count * (count - 1) for count in both.values()) / pairs


def frames(photographs: Sequence[Path]) -> list[bytes]:
    """Return cuts of photographs, which are turned and mirrored, `_FRAMES` of each."""
    rng = random.Random(5)
    pictures = []
    for photograph in photographs:
        whole = Image.open(photograph).convert("RGB")
        whole.thumbnail((256, 256))
        for _ in range(_FRAMES):
            share = rng.uniform(0.55, 0.7)
            width, height = int(whole.width * share), int(whole.height * share)
            left = rng.randint(0, whole.width - width)
            top = rng.randint(0, whole.height - height)
            cut = whole.crop((left, top, left + width, top + height)).resize((200, 200))
            cut = cut.rotate(rng.choice([-25, 25, 0, 35]), fillcolor=(90, 90, 90))
            is_mirrored = rng.random() < 1 / 2
            pictures.append(
                kept(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_mirrored else cut)
            )
    return pictures


def by_chance(paths: Sequence[str], pictures: Sequence[bytes], draws: int) -> int:
    """Return how many draws of photographs and of names that say nothing have families."""
    rng = random.Random(0)
    given = 0
    for _ in range(draws):
        count = rng.choice([40, 80, 200, 400, 800])
        form = rng.choice(_FORMS)
        groups = max(2, count // rng.choice([2, 3, 6, 10, 20]))
        chosen = rng.sample(range(len(paths)), count)
        films = [rng.randrange(groups) for _ in chosen]
        named = {
            f"{paths[place].split('/')[-2]}/"
            + form.format(film=film, frame=at, number=at, chance=rng.getrandbits(64)): place
            for at, (film, place) in enumerate(zip(films, chosen, strict=True))
        }
        given += bool(found([*named], [pictures[place] for place in named.values()], 0).by_content)
    return given


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Folder of the sets.")
    parser.add_argument("--draws", type=int, default=1000, help="Draws of names by chance.")
    options = parser.parse_args()
    for name, true_family in _SETS.items():
        files = sorted(
            path
            for path in (options.data / name).rglob("*")
            if path.suffix.lower() in (".jpg", ".png")
        )
        paths = [str(path.relative_to(options.data)) for path in files]
        pictures = [kept(Image.open(path)) for path in files]
        result = found(paths, pictures)
        sizes = Counter(result.by_content.values())
        text = f"{name:18} {len(paths):5} images, {sizes.total():5} in {len(sizes):4} families"
        if true_family:
            truth = {path: re.findall(true_family, path)[-1] for path in paths}
            text += f"; {together(result.by_content, truth):.3f} of the true pairs are together"
        print(text, flush=True)
        if name == "cats_dogs":
            of_cats = paths, pictures
    cats = sorted((options.data / "cats_dogs/cat").glob("*.jpg"))
    cuts = frames(cats[:60])
    rng = random.Random(3)
    for form in _FORMS:
        paths = [
            f"{'ab'[at // _FRAMES % 2]}/"
            + form.format(
                film=at // _FRAMES, frame=at % _FRAMES, number=at, chance=f"{rng.getrandbits(64):x}"
            )
            for at in range(len(cuts))
        ]
        truth = {path: str(at // _FRAMES) for at, path in enumerate(paths)}
        share = together(found(paths, cuts, 0).by_content, truth)
        print(f"films: {form:45} {share:.3f} of the true pairs are together", flush=True)
    given = by_chance(*of_cats, options.draws)
    print(f"names by chance: families in {given} of {options.draws} draws")


if __name__ == "__main__":
    main()
