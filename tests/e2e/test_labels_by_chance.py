"""Photographs with labels by chance are never blessed, whether their families are found or not."""

import random
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_FILMS = 24
_FRAMES = 5


@pytest.mark.parametrize("name", ["film{film}_frame{frame:03d}", "frame{frame:03d}_film{film}.jpg"])
def test_films_with_labels_by_chance_are_not_blessed(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    rng = random.Random(5)
    case = Case(tmp_path / "photos", tmp_path / "out")
    photographs = sorted((shared_data / "cats_dogs/cat").glob("*.jpg"))[:_FILMS]
    for film, photograph in enumerate(photographs):
        whole = Image.open(photograph).convert("RGB").resize((256, 256))
        folder = case.photos / "ab"[film % 2]
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(_FRAMES):
            left, top = rng.randint(0, 96), rng.randint(0, 96)
            cut = whole.crop((left, top, left + 160, top + 160)).rotate(rng.choice([-25, 0, 25]))
            cut.save(folder / name.format(film=film, frame=frame), "JPEG")
    outcome = case.run("evaluate.threshold=0.9", "evaluate.cross_validate=-1")
    assert outcome.exit_code == 3, outcome.verdict
    families = outcome.result["data"]["families"]
    assert (families["families"], families["images"]) == (_FILMS, _FILMS * _FRAMES)
