"""What a run refuses about its source before it reads an image."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import imgpipe
from imgpipe.components.example_gen.sources import Images
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration.config import build
from imgpipe.pipeline.definition import source


def _require_outside(data: dict[str, str], outputs: dict[str, dict[str, str]]) -> None:
    source.require_outside(build({"data": data, **outputs}))


def test_outputs_among_the_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = {"source": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"run.out: .* lies in the folder of the images"):
        _require_outside(data, {"run": {"out": str(tmp_path / "out")}})
    _require_outside(data, {"run": {"out": f"{tmp_path}-out"}})
    with pytest.raises(ConfigError, match=r"bank.store: expected a path without \*, \?, \[ and"):
        _require_outside(data, {"bank": {"store": "/features [new]"}})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # a data set has the name of the folder of outputs, and no place
    _require_outside({"source": "tfds:mnist"}, {"run": {"out": "mnist"}})


@pytest.mark.parametrize("begin", [imgpipe.check, imgpipe.run])
def test_what_libraries_print_while_images_are_listed_is_not_shown(
    begin: Callable[[str, Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def loud(*_: object) -> Images:
        os.write(2, b"E0000 failed call to cuInit\n")
        raise ConfigError("no image is here")

    monkeypatch.setattr(source, "read_source", loud)
    with pytest.raises(ConfigError, match="no image is here"):
        begin("here", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
