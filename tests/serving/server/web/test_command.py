"""`imgpipe serve`: the web page, versions, JSON lines and invalid arguments."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.export.saved_model import write_warmup
from imgpipe.pipeline.application import app
from imgpipe.pipeline.published.copies import example_images


def _name_classes(model: Path) -> None:
    (model / "assets").mkdir(exist_ok=True)
    (model / "assets" / "vocabulary.txt").write_text("cat\ndog\n")


def test_an_unwritable_json_file_is_refused_at_once(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    _name_classes(tmp_path / "1")
    for file, words in (
        (tmp_path / "gone" / "lines", "--json .*its folder does not exist"),
        (tmp_path, r"--json .* is a folder\. Name a file"),
        (
            "gs://bucket/lines",
            "--json gs://bucket/lines is an address. Name a file on this machine",
        ),
    ):
        arguments = ["serve", str(tmp_path / "1"), "--port", "0", "--json", str(file)]
        with pytest.raises(ConfigError, match=words):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_examples_are_images_that_the_model_holds(tmp_path):
    write_warmup("any", [b"1", b"2", b"3", b"4"], str(tmp_path / "model"))
    assert example_images(tmp_path / "model") == (b"1", b"2", b"3")
    with pytest.raises(ResourceError, match=r"holds no validation images.* Leave out --examples"):
        example_images(tmp_path)
