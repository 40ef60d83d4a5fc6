"""`imgpipe serve`: the web page, versions, JSON lines and invalid arguments."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.export.saved_model import write_warmup
from imgpipe.models.machine import system
from imgpipe.pipeline.application import app
from imgpipe.pipeline.commands.serve import serve
from imgpipe.pipeline.published.copies import example_images
from tests import json_formats
from tests.serving.quick import served_by_program


def _name_classes(model: Path) -> None:
    """Write the names of the classes, which every model of imgpipe has."""
    (model / "assets").mkdir(exist_ok=True)
    (model / "assets" / "vocabulary.txt").write_text("cat\ndog\n")


@pytest.mark.slow
def test_a_program_reads_the_ports_and_the_states_of_the_versions(models, tmp_path):
    shutil.copytree(models / "images", tmp_path / "model" / "3")
    _name_classes(tmp_path / "model" / "3")
    process, lines = served_by_program(tmp_path)
    for line in lines:
        json_formats.conform("serve", line)
    with urllib.request.urlopen(lines[0]["page"], timeout=20) as answer:
        assert b"<title>Try the model</title>" in answer.read()
    process.terminate()
    rest, log = process.communicate(timeout=40)
    assert lines[0]["event"] == "listening"
    assert lines[0]["models"] == {"imgpipe": str(tmp_path / "model")}
    assert lines[-1]["version"] == 3
    assert json.loads(rest.splitlines()[-1])["finished"] is True
    if not system.has_gpu_device():
        assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines()), log


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


def test_invalid_folders_and_options_are_refused(tmp_path):
    for name in ("1", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    with pytest.raises(ResourceError, match="serves the models of other programs"):
        serve(tmp_path / "other", port=0)
    for options, words in (
        (
            {"web_page": False, "examples": True},
            r"--examples needs the web page\. Leave out --no-web",
        ),
        ({"request_log_images": True}, "--log-images and --log-share need --request-log PREFIX"),
        ({"request_log_sampling_rate": 0.5}, "need --request-log PREFIX"),
    ):
        with pytest.raises(ConfigError, match=words):
            serve(tmp_path, port=0, **options)
