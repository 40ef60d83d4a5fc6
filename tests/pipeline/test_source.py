"""What a run refuses about its source before it reads an image."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import imgpipe
from imgpipe.components.example_gen.sources import Item, Scan, Source
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.configuration.config import build
from imgpipe.pipeline.definition import source


def _require_outside(data: dict[str, str], outputs: dict[str, dict[str, str]]) -> None:
    config = build({"data": data, **outputs})
    source.require_outside(config.data, config.places)


@pytest.mark.parametrize("prefix", ["", "folder:", "FOLDER:", "tfrecord:", "csv:"])
def test_outputs_among_the_images_are_refused_with_every_spelling(tmp_path: Path, prefix: str):
    data = {"source": f"{prefix}{tmp_path}"}
    with pytest.raises(ConfigError, match=r"run.out: .* lies in the folder of the images"):
        _require_outside(data, {"run": {"out": str(tmp_path / "out")}})
    _require_outside(data, {"run": {"out": f"{tmp_path}-out"}})
    with pytest.raises(ConfigError, match=r"bank.store: expected a path without \*, \?, \[ and"):
        _require_outside(data, {"bank": {"store": "/features [new]"}})


@pytest.mark.parametrize("begin", [imgpipe.check, imgpipe.run])
def test_what_libraries_print_while_images_are_listed_is_not_shown(
    begin: Callable[[str, Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Loud(Source):
        def unchecked(self) -> Scan:
            os.write(2, b"E0000 failed call to cuInit\n")
            raise ConfigError("no image is here")

        def read(self, item: Item) -> bytes:
            return b""

    monkeypatch.setattr(source, "read_source", lambda *_: Loud("here"))
    with pytest.raises(ConfigError, match="no image is here"):
        begin("here", tmp_path / "out")
    assert capfd.readouterr() == ("", "")
