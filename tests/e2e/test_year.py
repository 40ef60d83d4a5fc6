"""A year of production, played through: what each change of the data does to the published model.

The events are those in the table of docs/concepts.md, on real photographs of flowers.
"""

import itertools
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgpipe.components.common.storage import manifest
from imgpipe.pipeline import api
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration.given_settings import assigned
from imgpipe.pipeline.execution.pipeline_run import execute
from tests.command import imgpipe
from tests.e2e.case import ruling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_IMAGES = {"daisy": 90, "dandelion": 90, "rose": 90, "sunflower": 72, "tulip": 97}
_SETTINGS = ("train.minutes=0", "evaluate.threshold=0.6", "evaluate.max_drop=0.01")
_ORIENTATION = 0x0112  # the tag of Exif


class _Year:
    """Photographs in folders, and the output folder of all runs."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.photos, self.out = folder / "photos", folder / "out"
        self._unused = {label: sorted((source / label).iterdir()) for label in _IMAGES}
        for files in self._unused.values():
            random.Random(0).shuffle(files)
        for label, count in _IMAGES.items():
            self.add(label, count)

    def add(self, label: str, count: int) -> list[Path]:
        """Copy images of a class that were not used before, and return the copies."""
        taken, self._unused[label] = self._unused[label][:count], self._unused[label][count:]
        (self.photos / label).mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(file, self.photos / label)) for file in taken]

    def held_out(self, label: str, count: int) -> list[Path]:
        """Return images of a class that no run sees."""
        return self._unused[label][-count:]

    def run(self, *assignments: str, accept: bool = False) -> Any:
        """Run on the photographs as they are now, and return the outcome."""
        tree = {"run": {"out": str(self.out)}, "data": {"source": str(self.photos)}}
        return execute(configs.build(tree, assigned((*_SETTINGS, *assignments))), accept=accept)

    @property
    def served(self) -> int:
        found = manifest.latest(self.out / "model")
        return found.number if found else 0


@pytest.fixture(scope="module")
def year(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> _Year:
    """Return the photographs after the first run, whose model is published."""
    begun = _Year(tmp_path_factory.mktemp("year"), shared_data / "flowers_128")
    assert begun.run().exit_code == 0
    return begun


def _refused(year: _Year, *words: str) -> None:
    """Assert that check and run refuse the data in the same words, and publish nothing."""
    before = year.served
    outcome = year.run()
    assert (outcome.exit_code, year.served) == (4, before), outcome.verdict
    given = [word for one in (*_SETTINGS, f"run.out={year.out}") for word in ("--set", one)]
    checked = imgpipe("check", str(year.photos), *given)
    assert checked.returncode == 4
    for word in words:
        assert word in outcome.verdict and word in " ".join(checked.stdout.split())


def test_a_lost_class_and_a_gutted_class_refuse_the_data(year: _Year, tmp_path: Path):
    shutil.move(year.photos / "tulip", tmp_path / "tulip")
    _refused(year, "'tulip'", "--accept")
    (year.photos / "tulip").mkdir()
    files = sorted((tmp_path / "tulip").iterdir())
    for file in files[:17]:
        shutil.copy(file, year.photos / "tulip")
    _refused(year, "'tulip'", "--accept")
    for file in files[17:]:
        shutil.copy(file, year.photos / "tulip")
    assert year.run().exit_code == 0


def test_after_a_change_of_the_classes_models_are_compared_on_those_that_both_know(year: _Year):
    folder = year.photos / "rose"
    folder.rename(folder.with_name("roses"))
    _refused(year, "'rose'")
    renamed = year.run(accept=True)
    assert renamed.exit_code == 0, renamed.verdict
    assert "by networks that were not trained on them" in ruling(renamed, "last_version")
    folder.with_name("roses").rename(folder)
    restored = year.run(accept=True)
    assert restored.exit_code == 0
    assert "by networks that were not trained on them" in ruling(restored, "last_version")


def test_images_of_another_kind_are_named_and_nothing_is_published(year: _Year, shared_data: Path):
    before = year.served
    cats = sorted((shared_data / "cats_dogs" / "cat").glob("*.jpg"))[:60]
    copies = [Path(shutil.copy(cat, year.photos / "daisy")) for cat in cats]
    outcome = year.run()
    assert (outcome.exit_code, year.served) == (3, before), outcome.verdict
    assert "unlike_images" in outcome.result["gate"]["failed"]
    assert "'daisy'" in outcome.verdict
    for copy in copies:
        copy.unlink()


def test_clean_new_images_are_published(year: _Year):
    before = year.served
    for label in _IMAGES:
        year.add(label, 20)
    outcome = year.run()
    assert (outcome.exit_code, year.served) == (0, before + 1), outcome.verdict


def test_a_rollback_during_a_run_is_not_undone(year: _Year):
    served = year.served
    year.add("tulip", 12)
    found: list[Any] = []
    runs = set((year.out / "runs").iterdir())
    running = threading.Thread(target=lambda: found.append(year.run()))
    running.start()
    while not any(_predicts(path) for path in set((year.out / "runs").iterdir()) - runs):
        time.sleep(0.2)
        assert running.is_alive()
    program = Path(sys.executable).with_name("imgpipe")
    subprocess.run([program, "rollback", year.out], check=True)
    running.join()
    assert found[0].exit_code == 3, found[0].verdict
    assert "no longer the served one" in found[0].verdict
    assert year.served > served, "the version before, under a new number"


def _predicts(run: Path) -> bool:
    """Whether the model of a run has been trained."""
    file = run / "artifacts.json"
    return file.is_file() and "ImageTrainer" in file.read_text()


def test_a_model_that_never_predicts_a_class_is_not_blessed(tmp_path: Path, shared_data: Path):
    files = sorted((shared_data / "flowers_128" / "rose").iterdir())
    random.Random(1).shuffle(files)
    for label, part in (("good", files[:380]), ("defect", files[380:400])):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for file in part:
            shutil.copy(file, tmp_path / "photos" / label)
    tree = {
        "run": {"out": str(tmp_path / "out")},
        "data": {"source": str(tmp_path / "photos")},
        "train": {"minutes": 0.0},
    }
    outcome = execute(configs.build(tree))
    assert outcome.exit_code == 3, outcome.verdict
    assert {"commonest_class", "class_recall"} & set(outcome.result["gate"]["failed"])


def test_photographs_from_a_phone_held_sideways_cost_no_accuracy(year: _Year, tmp_path: Path):
    for label, name in itertools.product(_IMAGES, ("upright", "sideways")):
        (tmp_path / name / label).mkdir(parents=True)
    for label in _IMAGES:
        for number, file in enumerate(year.held_out(label, 40)):
            with Image.open(file) as image:
                upright = image.convert("RGB")
            turned, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
            exif[_ORIENTATION] = 6  # the camera was turned by 90 degrees
            upright.save(tmp_path / "upright" / label / f"{number}.jpg", quality=100, subsampling=0)
            turned.save(
                tmp_path / "sideways" / label / f"{number}.jpg",
                quality=100,
                subsampling=0,
                exif=exif,
            )
    upright, sideways = (
        api.evaluate(year.out, tmp_path / name).metrics["evaluation"]["correct"]
        for name in ("upright", "sideways")
    )
    assert upright - sideways <= 2, "of 200 images, which are saved again at another angle"
