"""Few images: those of validation teach, and what is said about them is said without them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.names import OUT_OF_FOLD_FILE
from imgpipe.serving.server.runtime import Runtime
from tests.e2e.case import Case, newest_artifact, ruling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_CLASSES = ("dandelion", "sunflower")
_AUTOMATIC = ("evaluate.cross_validate=-1", "split.validation=0.1")


@pytest.fixture(scope="module")
def few(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Any]:
    """Return a case of 12 photographs of each class, and the outcome of its first run."""
    folder = tmp_path_factory.mktemp("few")
    case = Case(folder / "photos", folder / "out")
    _add(case, shared_data, 0, 12)
    return case, case.run(*_AUTOMATIC)


def _add(case: Case, shared_data: Path, first: int, count: int) -> None:
    for label in _CLASSES:
        (case.photos / label).mkdir(parents=True, exist_ok=True)
        for file in sorted((shared_data / "flowers_128" / label).iterdir())[first:][:count]:
            shutil.copy(file, case.photos / label)


def test_at_least_20_of_24_images_teach(few: tuple[Case, Any]):
    _, outcome = few
    assert outcome.exit_code == 0, outcome.verdict
    learned = outcome.result["training"]["learned"]
    counts = {split: sum(n.values()) for split, n in outcome.result["data"]["by_split"].items()}
    assert learned == {split: counts[split] for split in (names.TRAIN, names.VALIDATION)}
    assert sum(learned.values()) >= 20
    assert outcome.result["training"]["cross_validation"]["images"] == sum(learned.values())


def test_validation_images_are_judged_by_heads_without_them(few: tuple[Case, Any]):
    case, _ = few
    with np.load(case.out / "model" / "1" / OUT_OF_FOLD_FILE) as file:
        found = dict(zip(file["hashes"].tolist(), file["probabilities"], strict=True))
    runtime = Runtime(case.out / "model" / "1")
    kept = str(newest_artifact(case.out, "ImageFilter", "examples"))
    images = {
        records.raw(one, names.IMAGE_HASH): records.raw(one, names.IMAGE_BYTES)
        for one in records.iterate(kept, names.VALIDATION)
    }
    predictions = str(newest_artifact(case.out, "ImageEvaluator", "predictions"))
    differences = []
    for example in records.iterate(predictions, names.VALIDATION):
        image_hash = records.raw(example, names.IMAGE_HASH)
        stored = records.floats(example, names.PROBABILITIES)
        np.testing.assert_allclose(stored, found[image_hash], atol=1e-6)
        answer = runtime.answer(image_bytes=[images[image_hash]])[names.PROBABILITIES][0]
        differences.append(np.abs(answer - stored).max())
    runtime.close()
    assert max(differences) > 1e-4, "the served model has learned from them"


def test_the_second_version_is_compared_by_the_folds_of_both(
    few: tuple[Case, Any], shared_data: Path
):
    case, _ = few
    _add(case, shared_data, 12, 12)
    outcome = case.run(*_AUTOMATIC)
    assert outcome.exit_code == 0, outcome.verdict
    held_out = sum(outcome.result["data"]["by_split"][names.VALIDATION].values())
    words = f"of {held_out} validation images, where version 1 is right for "
    assert words in ruling(outcome, "last_version")
