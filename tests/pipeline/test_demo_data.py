"""Tests of the drawn demo data set: reproducible, varied, with the planted faults."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.image_filter.findings import with_severity
from imgpipe.pipeline import demo
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.data_check import judge
from imgpipe.pipeline.definition.source import listed

PER_CLASS = 12
SIZE = 96


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_the_set_is_the_same_each_time(drawn: Path, tmp_path: Path) -> None:
    known = _files(drawn)
    assert len(known) == 3 * PER_CLASS + len(demo.FAULTS)
    for _ in range(2):  # the second time into the same folder
        assert _files(demo.draw(tmp_path / "again", per_class=PER_CLASS, size=SIZE)) == known


def test_without_faults_every_file_is_a_good_image(tmp_path: Path) -> None:
    files = _files(demo.draw(tmp_path, per_class=PER_CLASS, size=SIZE, faults=False))
    assert len(set(files.values())) == 3 * PER_CLASS
    assert {Path(p).suffix for p in files} == {".jpg", ".JPG", ".png", ".jpeg"}
    for data in files.values():
        image = Image.open(io.BytesIO(data))
        assert image.mode == "RGB" and min(image.size) == SIZE
    for label in demo.LABELS:
        images = [_pixels(data) for path, data in files.items() if path.startswith(label)]
        distances = [np.abs(a - b).mean() for a, b in itertools.combinations(images, 2)]
        assert min(distances) > 6 and np.median(distances) > 30


def test_every_planted_fault_is_found_by_a_check_under_its_reason(drawn: Path) -> None:
    config = configs.build({"data": {"source": str(drawn)}})
    judged = judge(config, listed(config, ""), "")
    findings = judged.judgement.findings
    found = {(one["reason"], one["path"]) for one in findings}
    for fault in demo.FAULTS:
        if fault.reason != "mislabelled":  # only a model can doubt a label
            assert (fault.reason, fault.path) in found
    assert len(with_severity(findings, "reject")) == 11
