"""Planted wrong labels come first and are asked about; labels by chance are never blessed."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.review import images
from imgpipe.pipeline.review.images import ImageView
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_IMAGES = 50  # of each class
_PLANTED = 3  # images of each class that lie in the folder of the other
_FILMS = 24
_FRAMES = 5


@pytest.fixture(scope="module")
def planted(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Return a case of photographs of cats and dogs of which some are exchanged, and its run."""
    folder = tmp_path_factory.mktemp("planted")
    case = Case(folder / "photos", folder / "out")
    classes = sorted(one for one in (shared_data / "cats_dogs").rglob("*") if _is_class(one))[:2]
    for label, other in (classes, classes[::-1]):
        (case.photos / label.name).mkdir(parents=True, exist_ok=True)
        (case.photos / other.name).mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(sorted(label.glob("*.jpg"))[:_IMAGES]):
            wrong = number < _PLANTED
            name = f"planted_{label.name}_{number}.jpg" if wrong else f"{label.name}_{number}.jpg"
            shutil.copy(file, case.photos / (other.name if wrong else label.name) / name)
    return case, case.run("evaluate.cross_validate=-1", "evaluate.threshold=0")


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and len(list(folder.glob("*.jpg"))) >= _IMAGES


def test_what_the_folds_and_the_model_get_wrong_is_the_ranking(planted: tuple[Case, Any]):
    _, outcome = planted
    result = outcome.result
    mistakes = sum(one["count"] - one["correct"] for one in outcome.metrics.values())
    assert list(outcome.metrics) == ["folds", "test"]
    assert result["suspects"]["disagree"] == len(result["suspects"]["rows"]) == mistakes
    of_folds = {one["path"] for one in result["answers"]["mistakes"]}
    assert of_folds <= {row["path"] for row in result["suspects"]["rows"]}


def test_planted_labels_come_first_and_are_asked_about(planted: tuple[Case, Any]):
    case, outcome = planted
    result = outcome.result
    ranking = [Path(row["path"]).name for row in result["suspects"]["rows"]]
    found = [name for name in ranking if name.startswith("planted_")]
    assert len(found) == 2 * _PLANTED, ranking
    assert set(found) <= set(ranking[: 2 * _PLANTED + 2]), ranking
    (run,) = OutputFolder(case.out).runs
    reviewed = images.read(run)
    shown = [*reviewed.view(ImageView("doubtful")), *reviewed.view(ImageView("mistakes"))]
    assert [Path(row.path).name for row in shown] == ranking
    assert len(reviewed.view(ImageView())) == 2 * _IMAGES


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
