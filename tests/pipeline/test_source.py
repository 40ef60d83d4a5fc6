"""What a run refuses about its source before it reads an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration.config import build
from imgpipe.pipeline.images import source


@pytest.mark.parametrize("prefix", ["", "folder:", "FOLDER:", "tfrecord:", "csv:"])
def test_outputs_among_the_images_are_refused_with_every_spelling(tmp_path: Path, prefix: str):
    data = {"source": f"{prefix}{tmp_path}"}
    with pytest.raises(ConfigError, match=r"run.out: .* lies in the folder of the images"):
        source.require_outside(build({"data": data, "run": {"out": str(tmp_path / "out")}}))
    source.require_outside(build({"data": data, "run": {"out": f"{tmp_path}-out"}}))
    with pytest.raises(
        ConfigError, match=r"push.directory: expected a path without \*, \?, \[ and"
    ):
        source.require_outside(build({"data": data, "push": {"directory": "/models [new]"}}))
