"""Tests of the drawn demo data set: reproducible, balanced, varied, with the planted faults."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import demo
from imgpipe.pipeline.demo.faults import FAULTS
from tests import python_program

PER_CLASS = 12
SIZE = 96


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoSet:
    """Draw the demo data set with its planted faults."""
    return demo.draw(tmp_path_factory.mktemp("demo") / "set", per_class=PER_CLASS, size=SIZE)


def _files(directory: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by relative path."""
    return {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file()
    }


def _pixels(data: bytes) -> np.ndarray:
    """Return the pixels of an image file, float32 [16, 16, 3], 0..255."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((16, 16))
    return np.asarray(image, np.float32)


def test_the_same_seed_draws_the_same_bytes_and_another_draws_others(
    drawn: demo.DemoSet, tmp_path: Path
) -> None:
    known = _files(drawn.directory)
    for _ in range(2):  # the second time into the same folder
        again = demo.draw(tmp_path / "again", per_class=PER_CLASS, size=SIZE)
        assert _files(again.directory) == known and again.planted == drawn.planted
    other = demo.draw(tmp_path / "other", per_class=4, size=SIZE, seed=1, faults=False)
    assert not set(known.values()) & set(_files(other.directory).values())


def test_classes_are_balanced_and_counted(drawn: demo.DemoSet) -> None:
    files = _files(drawn.directory)
    assert drawn.counts == dict.fromkeys(demo.LABELS, PER_CLASS)
    assert len(files) == drawn.files == 3 * PER_CLASS + len(FAULTS)


def test_without_faults_every_file_is_a_good_image(tmp_path: Path) -> None:
    clean = demo.draw(tmp_path, per_class=PER_CLASS, size=SIZE, faults=False)
    files = _files(tmp_path)
    assert clean.planted == {} and len(set(files.values())) == clean.files == 3 * PER_CLASS
    assert {Path(p).suffix for p in files} == {".jpg", ".JPG", ".png", ".jpeg"}
    for data in files.values():
        image = Image.open(io.BytesIO(data))
        assert image.mode == "RGB" and min(image.size) == SIZE
    for label in demo.LABELS:
        images = [_pixels(data) for path, data in files.items() if path.startswith(label)]
        distances = [np.abs(a - b).mean() for a, b in itertools.combinations(images, 2)]
        assert min(distances) > 6 and np.median(distances) > 30


def test_a_single_hand_is_reproducible_and_not_in_the_set(drawn: demo.DemoSet) -> None:
    first, again = (demo.draw_hand("rock", seed=0, size=SIZE) for _ in range(2))
    assert first.size == (SIZE, SIZE) and first.tobytes() == again.tobytes()
    mine = np.asarray(first.resize((16, 16)), np.float32)
    for path, data in _files(drawn.directory).items():
        if path.startswith("rock/IMG_00"):
            assert np.abs(_pixels(data) - mine).mean() > 6


def test_every_planted_fault_is_found_by_a_check_under_its_reason(drawn: demo.DemoSet) -> None:
    from imgpipe.components.source_check import Plan, judge

    found: dict[str, set[str]] = {}
    judged = judge(Plan(str(drawn.directory)))
    for one in (*judged.rejects, *judged.repairs, *judged.warnings):
        found.setdefault(one.reason, set()).add(one.path)
    same = {"rotated": "orientation"}
    for reason, paths in drawn.planted.items():
        if reason != "mislabelled":  # only a model can doubt a label
            assert set(paths) <= found[same.get(reason, reason)], reason
    assert len(judged.rejects) == 11


def test_with_folders_of_splits_a_training_image_leaks_into_validation(tmp_path: Path) -> None:
    found = demo.draw(tmp_path, per_class=10, size=64, split_folders=True)
    files = _files(tmp_path)
    (leaked,) = found.planted["duplicate_across_splits"]
    assert leaked.startswith("train/paper/")
    copies = [p for p, data in files.items() if data == files[leaked] and p != leaked]
    assert copies == ["validation/paper/IMG_9016.jpg"]
    for split, count in (("train", 8), ("validation", 1), ("test", 1)):
        for label in demo.LABELS:
            held = [p for p in files if p.startswith(f"{split}/{label}/IMG_00")]
            assert len([p for p in held if "_copy" not in p]) == count


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"holiday\.jpg: name a new or empty folder"):
        demo.draw(tmp_path, per_class=4, size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="per_class of the demo set must be at least 4"):
        demo.draw(tmp_path, per_class=3)
    with pytest.raises(ConfigError, match=r"at least 48\. Received: 8"):
        demo.draw(tmp_path, size=8)
    with pytest.raises(ConfigError, match="'lizard': expected one of paper, rock, scissors"):
        demo.draw_hand("lizard")


def test_drawing_does_not_import_tensorflow() -> None:
    code = (
        "import sys, imgpipe.pipeline.demo as d; d.draw_hand('rock')\n"
        "print('tensorflow' in sys.modules)"
    )
    assert python_program.printed(code).strip() == "False"
