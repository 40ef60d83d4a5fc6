"""Tests of the drawn demo data set: reproducible, balanced, varied, with the planted faults."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

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


@pytest.fixture(scope="module")
def split_set(tmp_path_factory: pytest.TempPathFactory) -> demo.DemoSet:
    """Draw the demo data set with its planted faults, in folders of splits."""
    folder = tmp_path_factory.mktemp("demo") / "split"
    return demo.draw(folder, per_class=10, size=64, split_folders=True)


def _files(directory: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by relative path."""
    return {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file()
    }


def _planted(drawn: demo.DemoSet, reason: str) -> list[bytes]:
    """Return the content of the files that were planted for a reason."""
    return [(drawn.directory / path).read_bytes() for path in drawn.planted[reason]]


def _pixels(data: bytes, side: int = 16) -> np.ndarray:
    """Return the pixels of an image file, float32 [side, side, 3], 0..255."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side))
    return np.asarray(image, np.float32)


def _loads(data: bytes) -> bool:
    """Return whether Pillow can decode an image file."""
    try:
        Image.open(io.BytesIO(data)).load()
    except (UnidentifiedImageError, OSError):
        return False
    return True


def test_the_same_seed_draws_the_same_bytes(drawn: demo.DemoSet, tmp_path: Path) -> None:
    again = demo.draw(tmp_path / "again", per_class=PER_CLASS, size=SIZE)
    assert _files(again.directory) == _files(drawn.directory)
    assert again.planted == drawn.planted


def test_another_seed_draws_other_images(drawn: demo.DemoSet, tmp_path: Path) -> None:
    other = demo.draw(tmp_path, per_class=4, size=SIZE, seed=1, faults=False)
    known = set(_files(drawn.directory).values())
    assert not known & set(_files(other.directory).values())


def test_classes_are_balanced_and_counted(drawn: demo.DemoSet) -> None:
    files = _files(drawn.directory)
    assert drawn.counts == dict.fromkeys(demo.LABELS, PER_CLASS)
    assert len(files) == drawn.files == 3 * PER_CLASS + len(FAULTS)
    at_fault = {path for paths in drawn.planted.values() for path in paths}
    for label in demo.LABELS:
        good = [p for p in files if p.startswith(f"{label}/") and p not in at_fault]
        assert PER_CLASS - 1 <= len(good) <= PER_CLASS  # one side of the label conflict


def test_without_faults_every_file_is_a_good_image(tmp_path: Path) -> None:
    clean = demo.draw(tmp_path, per_class=PER_CLASS, size=SIZE, faults=False)
    files = _files(tmp_path)
    assert clean.planted == {} and len(files) == clean.files == 3 * PER_CLASS
    assert len(set(files.values())) == len(files)
    assert {Path(p).suffix for p in files} == {".jpg", ".JPG", ".png", ".jpeg"}
    for data in files.values():
        image = Image.open(io.BytesIO(data))
        assert image.mode == "RGB" and min(image.size) == SIZE


def test_images_differ_from_each_other(drawn: demo.DemoSet) -> None:
    files = _files(drawn.directory)
    for label in demo.LABELS:
        images = [_pixels(files[p]) for p in files if p.startswith(f"{label}/IMG_00")]
        images = images[:PER_CLASS]
        distances = [np.abs(a - b).mean() for a, b in itertools.combinations(images, 2)]
        distances = [d for d in distances if d > 0]  # without the planted copy
        assert min(distances) > 6 and np.median(distances) > 30


@pytest.mark.parametrize("label", demo.LABELS)
def test_a_hand_differs_from_its_background(label: str) -> None:
    distances = []
    for seed in range(12):
        pixels = np.asarray(demo.draw_hand(label, seed, SIZE), np.float32)
        middle, corners = pixels[32:64, 32:64].mean((0, 1)), pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        distances.append(np.abs(corners - middle).max())
    assert np.median(distances) > 60, "backgrounds alone differ by less"


def test_a_single_hand_is_reproducible_and_not_in_the_set(drawn: demo.DemoSet) -> None:
    first, again = (demo.draw_hand("rock", seed=0, size=SIZE) for _ in range(2))
    assert first.size == (SIZE, SIZE) and first.tobytes() == again.tobytes()
    assert first.tobytes() != demo.draw_hand("paper", seed=0, size=SIZE).tobytes()
    mine = np.asarray(first.resize((16, 16)), np.float32)
    for path, data in _files(drawn.directory).items():
        if path.startswith("rock/IMG_00"):
            assert np.abs(_pixels(data) - mine).mean() > 6


def test_empty_truncated_and_text_files_do_not_load(drawn: demo.DemoSet) -> None:
    assert _planted(drawn, "zero_byte") == [b""]
    for data in _planted(drawn, "truncated"):
        assert Image.open(io.BytesIO(data)).width == SIZE, "the header is whole"
        assert not _loads(data)
    for data in _planted(drawn, "not_an_image"):
        assert data.isascii() and not _loads(data)


def test_the_served_decoder_refuses_the_broken_files_only(drawn: demo.DemoSet) -> None:
    tf = pytest.importorskip("tensorflow")
    from imgpipe.models import preprocess

    undecodable = "Input is empty|Invalid (PNG|JPEG) data|Unknown image file format"
    for reason in ("zero_byte", "truncated", "not_an_image", "transcoded"):
        for data in _planted(drawn, reason):
            with pytest.raises(tf.errors.InvalidArgumentError, match=undecodable):
                preprocess.decode(tf.constant(data))
    for reason in ("misnamed", "rotated", "mislabelled", "near_duplicate", "duplicate"):
        for data in _planted(drawn, reason):
            assert preprocess.decode(tf.constant(data)).shape[-1] == 3


def test_odd_files_are_readable(drawn: demo.DemoSet) -> None:
    (misnamed,) = _planted(drawn, "misnamed")
    assert drawn.planted["misnamed"][0].endswith(".jpg")
    assert Image.open(io.BytesIO(misnamed)).format == "PNG"
    (tiff,) = _planted(drawn, "transcoded")
    assert Image.open(io.BytesIO(tiff)).format == "TIFF" and _loads(tiff)
    (gif,) = _planted(drawn, "animated")
    assert Image.open(io.BytesIO(gif)).n_frames == 3
    (dot,) = _planted(drawn, "too_small")
    assert Image.open(io.BytesIO(dot)).size == (1, 1)
    (rotated,) = _planted(drawn, "rotated")
    assert Image.open(io.BytesIO(rotated)).getexif()[0x0112] == 6


def test_copies_are_byte_identical_to_an_image_of_the_set(drawn: demo.DemoSet) -> None:
    files = _files(drawn.directory)
    for path in drawn.planted["duplicate"]:
        assert files[path] == files[path.replace("_copy", "")]
    one, other = drawn.planted["label_conflict"]
    assert files[one] == files[other]
    assert Path(one).parent != Path(other).parent
    at_fault = {*drawn.planted["duplicate"], *drawn.planted["label_conflict"]}
    rest = [data for path, data in files.items() if path not in at_fault]
    assert len(set(rest)) == len(rest)


def test_near_duplicates_differ_in_bytes_and_hardly_in_pixels(drawn: demo.DemoSet) -> None:
    files = _files(drawn.directory)
    for path in drawn.planted["near_duplicate"]:
        original = f"{Path(path).parent.name}/IMG_0002.jpg"
        assert files[path] != files[original]
        assert np.abs(_pixels(files[path]) - _pixels(files[original])).mean() < 3


def test_a_training_image_leaks_into_validation(split_set: demo.DemoSet) -> None:
    files = _files(split_set.directory)
    (leaked,) = split_set.planted["duplicate_across_splits"]
    assert leaked.startswith("train/paper/")
    copies = [p for p, data in files.items() if data == files[leaked] and p != leaked]
    assert copies == ["validation/paper/IMG_9016.jpg"]


def test_split_folders_hold_every_class(split_set: demo.DemoSet) -> None:
    for split, count in (("train", 8), ("validation", 1), ("test", 1)):
        for label in demo.LABELS:
            folder = split_set.directory / split / label
            drawn = [p for p in folder.glob("IMG_00*") if "_copy" not in p.name]
            assert len(drawn) == count


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"holiday\.jpg: name a new or empty folder"):
        demo.draw(tmp_path, per_class=4, size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_drawing_twice_into_one_folder_gives_the_same_files(tmp_path: Path) -> None:
    first = demo.draw(tmp_path, per_class=4, size=64)
    before = _files(tmp_path)
    assert demo.draw(tmp_path, per_class=4, size=64) == first
    assert _files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_class": 3}, "per_class of the demo set must be at least 4. Received: 3"),
        ({"size": 8}, "size of the demo set must be at least 48. Received: 8"),
        ({"seed": -1}, "seed of the demo set must be at least 0. Received: -1"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        demo.draw(tmp_path, **arguments)


def test_unknown_gesture_is_named() -> None:
    with pytest.raises(ConfigError, match="'lizard': expected one of paper, rock, scissors"):
        demo.draw_hand("lizard")


def test_drawing_does_not_import_tensorflow() -> None:
    code = (
        "import sys, imgpipe.pipeline.demo as d; d.draw_hand('rock')\n"
        "print('tensorflow' in sys.modules)"
    )
    assert python_program.printed(code).strip() == "False"
