"""What a run refuses about its source before it reads an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import source
from imgpipe.pipeline.configuration.config import build


@pytest.mark.parametrize("prefix", ["", "folder:", "FOLDER:", "tfrecord:", "csv:"])
def test_outputs_among_the_images_are_refused_with_every_spelling(tmp_path: Path, prefix: str):
    data = {"source": f"{prefix}{tmp_path}"}
    with pytest.raises(ConfigError, match=r"run.out: .* lies in the folder of the images"):
        source.require_outside(build({"data": data, "run": {"out": str(tmp_path / "out")}}))
    source.require_outside(build({"data": data, "run": {"out": f"{tmp_path}-out"}}))
    with pytest.raises(ConfigError, match=r"push.directory: expected a path without \*, \? and \["):
        source.require_outside(build({"data": data, "push": {"directory": "/models [new]"}}))


def test_test_images_without_a_test_split_are_refused(tmp_path: Path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(label.encode())
    tree = {"data": {"source": str(tmp_path)}, "gate": {"min_test": 5}, "split": {"test": 0.0}}
    with pytest.raises(ConfigError, match=r"gate.min_test: 5 images .* but split.test is 0"):
        source.require_classes(build(tree))
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for label in "ab":
            (tmp_path / split / label).mkdir()
            (tmp_path / split / label / "1.jpg").write_bytes(f"{split}{label}".encode())
    for label in "ab":
        (tmp_path / label / "1.jpg").unlink()
        (tmp_path / label).rmdir()
    source.require_classes(build(tree))
