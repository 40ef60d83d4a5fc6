"""Runs every preset on a few images of its own data set, up to a published or a refused model.

The images and epochs are too few for an accuracy that means something. The tests check that the
parts of a preset fit together; the accuracies are measured by the benchmarks.
"""

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from imgpipe.models.files.described_files import version_damage
from imgpipe.pipeline.configuration.given_settings import assigned, configuration
from imgpipe.pipeline.execution.pipeline_run import execute

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 saves variables with `np.array`, about which NumPy 2 warns.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

#: Folders of `shared/data`, the folders into which their images go as they are published, and the
#: number of images of each.
_COPIED = {
    "cats": [
        *[(f"cats_dogs/{one}", f"train/{one}s", 20) for one in ("cat", "dog")],
        *[(f"cats_dogs/{one}", f"validation/{one}s", 10) for one in ("cat", "dog")],
    ],
    "PetImages": [(f"cats_dogs/{one.lower()}", one, 40) for one in ("Cat", "Dog")],
    "horses": [
        (f"horses_or_humans/{split}/{label}", f"{split}/{label}", count)
        for label in ("horses", "humans")
        for split, count in (("train", 20), ("validation", 8))
    ],
    "hands": [
        (f"rps_cgi_28/{split}/{label}", f"{split}/{label}", count)
        for label in ("rock", "paper", "scissors")
        for split, count in (("train", 60), ("test", 12))
    ],
    "signs": [("sign_mnist_sample", ".", 2)],
}
_EMPTY = {"PetImages": ("Cat/666.jpg", "Dog/11702.jpg")}
_MOBILENET = "weights/mobilenet_v2_1.0_224_no_top_from_coral_ptq.weights.h5"
_ONE_VIEW = "course.views.count=1"
#: With this seed, both splits of the 188 rows have images of each letter.
_SIGNS = ("gate.min_train=1", "gate.min_validation=1", "split.validation=0.3", "split.seed=106")


def _images(shared_data: Path, name: str, place: Path) -> Path:
    """Copy some images of a data set into `place`, in the layout in which it is published."""
    taken: set[Path] = set()
    for source, target, count in _COPIED[name]:
        if not (shared_data / source).is_dir():
            pytest.skip(f"needs {shared_data / source}")
        left = sorted(set((shared_data / source).iterdir()) - taken)
        chosen = left[:: max(1, len(left) // count)][:count]
        taken.update(chosen)
        (place / target).mkdir(parents=True, exist_ok=True)
        for file in chosen:
            shutil.copyfile(file, place / target / file.name)
    for empty in _EMPTY.get(name, ()):
        (place / empty).touch()
    return place


@pytest.mark.parametrize(
    ("preset", "data", "settings", "trained", "told"),
    [
        ("cats_vs_dogs_cnn", "cats", [], "all layers", {}),
        (
            *("cats_vs_dogs_full", "PetImages"),
            ["gate.min_validation=1", "split.validation=0.3", _ONE_VIEW],
            *("", {"data.by_reason.zero_byte": 2}),
        ),
        ("cats_vs_dogs_augmented", "cats", [], "", {}),
        # The folder has no test split.
        ("horses_or_humans_augmented", "horses", [], "", {"image_size": 300}),
        (
            *("cats_vs_dogs_inception", "cats", ["model.weights=none", _ONE_VIEW], "head"),
            {"bank.forward_passes": 40 * 2 + 20},
        ),
        ("horses_or_humans_inception", "horses", ["INCEPTION", _ONE_VIEW], "", {}),
        (
            *("mobilenet_fine_tune", "cats"),
            ["MOBILENET", _ONE_VIEW, "course.fine_tune.epochs=2", "course.epochs=6"],
            *("", {"training.fine_tune.trained": "layers above block_10_project"}),
        ),
        ("rock_paper_scissors_cnn", "hands", [], "", {}),
        ("sign_mnist", "signs", _SIGNS, "", {"data.in": 199}),
    ],
)
def test_a_preset_publishes_a_model(
    preset: str,
    data: str,
    settings: list[str],
    trained: str,
    told: dict[str, Any],
    shared_data: Path,
    tmp_path: Path,
):
    given = ["evaluate.threshold=0", "course.epochs=2", *_weights(settings, shared_data, tmp_path)]
    photos = _images(shared_data, data, tmp_path / data)
    config = configuration(preset, str(photos), tmp_path / "out", assigned(given))
    outcome = execute(config)
    assert outcome.exit_code == 0, outcome.verdict
    summary = outcome.result
    assert outcome.accuracy >= 0
    for path, value in told.items():
        found = functools.reduce(lambda part, key: part[key], path.split("."), summary)
        assert found == value, path
    assert len(summary["classes"]) == 26 or preset != "sign_mnist"
    assert summary["push"]["status"] == "pushed"
    assert version_damage(tmp_path / "out" / "model" / "1", "all") == ""
    (history,) = (tmp_path / "out").glob("runs/*/artifacts/**/history.json")
    assert json.loads(history.read_text())["trained"].startswith(trained)


def _weights(settings: list[str], shared_data: Path, folder: Path) -> list[str]:
    """Return the settings, in which a word for weights is replaced by a file on this machine."""
    words = list(settings)
    if "MOBILENET" in words:
        file = shared_data / _MOBILENET
        if not file.is_file():
            pytest.skip(f"needs {file}")
        words[words.index("MOBILENET")] = f"model.weights={file}"
    if "INCEPTION" in words:
        import keras

        file = folder / "inception.weights.h5"
        keras.utils.set_random_seed(1)
        keras.applications.InceptionV3(weights=None, include_top=False).save_weights(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        words[words.index("INCEPTION")] = f"model.weights={file}"
        words.append(f"model.weights_sha256={digest}")
    return words
