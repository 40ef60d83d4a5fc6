"""Runs every preset on a few images of its own data set, up to a published or a refused model.

The images and epochs are too few for an accuracy that means something. The tests check that the
parts of a preset fit together; the accuracies are measured by the benchmarks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from imgpipe.components.storage import manifest
from imgpipe.pipeline.command_line.settings import configuration

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 saves variables with `np.array`, about which NumPy 2 warns.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

#: With this threshold no model is refused for its accuracy; one test overrides it to see that.
PASS = "evaluate.threshold=0"
COURSE_LINES = {"cats_vs_dogs_inception": "0.95 to 0.97", "sign_mnist": "0.8425"}


@pytest.fixture(scope="module")
def images(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that makes a folder with some images of a data set, given its name.

    The folder has the layout in which the data set is published.
    """
    root = tmp_path_factory.mktemp("sets")

    def link(files: list[Path], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            place = folder / file.name
            if not place.exists():
                shutil.copyfile(file, place)

    def some(folder: Path, count: int) -> list[Path]:
        if not folder.is_dir():
            pytest.skip(f"needs {folder}")
        files = sorted(folder.iterdir())
        return files[:: max(1, len(files) // count)][:count]

    def make(name: str) -> Path:
        place = root / name
        if name == "cats":
            for one, many in (("cat", "cats"), ("dog", "dogs")):
                files = some(shared_data / "cats_dogs" / one, 30)
                link(files[:20], place / "train" / many)
                link(files[20:], place / "validation" / many)
        elif name == "PetImages":
            for one in ("cat", "dog"):
                link(some(shared_data / "cats_dogs" / one, 40), place / one.capitalize())
            (place / "Cat" / "666.jpg").touch()
            (place / "Dog" / "11702.jpg").touch()
        elif name == "horses":
            for label in ("horses", "humans"):
                for split, count in (("train", 20), ("validation", 8)):
                    folder = shared_data / "horses_or_humans" / split / label
                    link(some(folder, count), place / split / label)
        elif name == "hands":
            for label in ("rock", "paper", "scissors"):
                for split, count in (("train", 60), ("test", 12)):
                    folder = shared_data / "rps_cgi_28" / split / label
                    link(some(folder, count), place / split / label)
        elif name == "signs":
            link(some(shared_data / "sign_mnist_sample", 2), place)
        return place

    return make


@pytest.fixture
def run(images: Any, tmp_path: Path) -> Any:
    """Return a function that runs a preset on a data set and checks what holds for all presets.

    The function returns the outcome and the history of the training.
    """

    def go(preset: str, data: str, *assignments: str) -> tuple[Any, dict[str, Any]]:
        from imgpipe.pipeline.execution.run import execute

        settings = [PASS, "train.epochs=2", *assignments]
        config = configuration(preset, str(images(data)), tmp_path / "out", settings)
        outcome = execute(config)
        assert outcome.exit_code in (0, 3), outcome.verdict
        summary = outcome.summary
        assert summary["metrics"]["validation"]["accuracy"] >= 0
        assert summary["expected"]["text"] == config.expect.text
        assert summary["expected"]["value"] is not None
        page = Path(summary["report"]).read_text(encoding="utf-8")
        assert COURSE_LINES.get(preset, "Expected:") in page
        if outcome.exit_code == 0:
            assert summary["push"]["status"] == "pushed"
            version = manifest.latest(tmp_path / "out" / "model")
            assert version.manifest["files"] == manifest.describe(version.path)
        (history,) = (tmp_path / "out" / "artifacts").rglob("history.json")
        return outcome, json.loads(history.read_text())

    return go


def test_cats_vs_dogs_cnn_is_not_blessed_below_its_threshold(run: Any):
    outcome, history = run("cats_vs_dogs_cnn", "cats", "evaluate.threshold=1")
    assert outcome.exit_code == 3
    assert outcome.verdict.startswith("not blessed: validation accuracy")
    assert outcome.summary["push"]["status"] == "refused"
    assert outcome.summary["expected"]["split"] == "validation"
    assert history["trained"].startswith("all layers")


def test_cats_vs_dogs_full_rejects_the_empty_files(run: Any):
    share = ("gate.min_validation=1", "split.validation=0.3", "views.count=1")
    outcome, _ = run("cats_vs_dogs_full", "PetImages", *share)
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["data"]["by_reason"]["zero_byte"] == 2
    assert set(outcome.summary["metrics"]) == {"validation"}


def test_cats_vs_dogs_augmented_is_pushed(run: Any):
    outcome, history = run("cats_vs_dogs_augmented", "cats")
    assert outcome.exit_code == 0, outcome.verdict
    assert len(history["epochs"]) == 2


def test_horses_or_humans_augmented_is_pushed(run: Any):
    outcome, _ = run("horses_or_humans_augmented", "horses")
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["model"]["image_size"] == 300
    assert outcome.summary["expected"]["split"] == "validation"  # the folder has no test split


def test_cats_vs_dogs_inception_runs_without_weights(run: Any):
    outcome, history = run("cats_vs_dogs_inception", "cats", "model.weights=none", "views.count=1")
    assert outcome.exit_code == 0, outcome.verdict
    assert outcome.summary["bank"]["forward_passes"] == 40 * 2 + 20
    assert history["trained"] == "head"


def test_horses_or_humans_inception_runs_with_weights_from_a_local_file(run: Any, tmp_path: Path):
    """The weights come from a local file, whose SHA-256 is given."""
    import keras

    file = tmp_path / "inception.weights.h5"
    keras.utils.set_random_seed(1)
    network = keras.applications.InceptionV3(weights=None, include_top=False)
    network.save_weights(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    outcome, _ = run(
        "horses_or_humans_inception",
        "horses",
        f"model.weights={file}",
        f"model.weights_sha256={digest}",
        "views.count=1",
    )
    assert outcome.exit_code == 0, outcome.verdict


def test_mobilenet_fine_tune_trains_in_two_stages(run: Any, shared_data: Path):
    file = shared_data / "weights" / "mobilenet_v2_1.0_224_no_top_from_coral_ptq.weights.h5"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    outcome, history = run(
        *("mobilenet_fine_tune", "cats", f"model.weights={file}"),
        *("fine_tune.epochs=2", "train.epochs=6", "train.learning_rate=1e-3", "views.count=1"),
    )
    assert outcome.exit_code == 0, outcome.verdict
    stage = history["fine_tune"]
    assert stage["trained"] == "layers above block_10_project"
    assert stage["shipped"] == stage["helped"]
    assert outcome.summary["metrics"]["validation"]["accuracy"] >= 0.8


def test_rock_paper_scissors_cnn_keeps_the_given_test_split(run: Any):
    outcome, _ = run("rock_paper_scissors_cnn", "hands")
    assert outcome.exit_code == 0, outcome.verdict
    splits = outcome.summary["data"]["splits"]
    assert set(splits["validation"]) == {"paper", "rock", "scissors"}
    assert sum(splits["test"].values()) == 36
    assert outcome.summary["expected"]["split"] == "test"


def test_sign_mnist_has_26_outputs_for_24_letters(run: Any):
    # With this seed, both splits of the 188 rows have images of each letter.
    few = ("gate.min_train=1", "gate.min_validation=1", "split.validation=0.3", "split.seed=106")
    outcome, _ = run("sign_mnist", "signs", *few)
    assert outcome.exit_code == 0, outcome.verdict
    assert len(outcome.summary["model"]["classes"]) == 26
    assert outcome.summary["data"]["in"] == 199
    validation = outcome.summary["data"]["splits"]["validation"]
    assert [letter for letter, count in validation.items() if not count] == ["25", "9"]
    assert outcome.summary["expected"]["split"] == "test"
