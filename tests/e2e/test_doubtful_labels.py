"""Planted wrong labels: those that the folds get wrong are asked about, and come first."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from imgpipe.pipeline.output.output_folder import OutputFolder
from imgpipe.pipeline.review import images
from imgpipe.pipeline.review.images import ImageView
from tests.e2e.case import Case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_IMAGES = 50  # of each class
_PLANTED = 3  # images of each class that lie in the folder of the other


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
