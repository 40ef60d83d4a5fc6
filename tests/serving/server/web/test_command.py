"""``imgpipe serve``: the web page, versions, JSON lines and invalid arguments."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline import machine
from imgpipe.pipeline.application import app
from imgpipe.pipeline.commands.serve import serve
from tests import json_formats

_LINES = 200
"""The server logs its address within this number of lines."""


@pytest.fixture
def start(models, tmp_path) -> Iterator[Callable[..., str]]:
    """Return a function that runs ``imgpipe serve`` on free ports.

    It returns the address of the REST interface.
    """
    shutil.copytree(models / "images", tmp_path / "model" / "1")
    running = []

    def run(*options: str, place: str = "") -> str:
        folder = str(tmp_path / place)
        command = [sys.executable, "-m", "imgpipe.pipeline.cli", "serve", folder]
        process = subprocess.Popen(
            [*command, "--port", "0", *options], stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stderr is not None
        for _ in range(_LINES):
            line = process.stderr.readline()
            assert line, "the server has stopped"
            if found := re.search(r"REST interface on (http://\S+)", line):
                return found[1]
        raise AssertionError("the server does not say where it listens")

    yield run
    for process in running:
        process.terminate()
        process.communicate(timeout=40)


@pytest.mark.slow
def test_the_page_is_served_unless_no_web_is_given(start):
    with urllib.request.urlopen(start() + "/", timeout=20) as answer:
        assert b"<title>Try the model</title>" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(start("--no-web") + "/", timeout=20)
    refused.value.close()


@pytest.mark.slow
def test_the_folder_of_one_version_is_served_alone(start, tmp_path):
    shutil.copytree(tmp_path / "model" / "1", tmp_path / "model" / "2")
    address = start(place="model/1")
    for _ in range(60):
        with contextlib.closing(_opened(f"{address}/v1/models/imgpipe")) as answer:
            states = json.load(answer).get("model_version_status", [])
        if states and states[0]["state"] == "AVAILABLE":
            break
        time.sleep(0.5)
    assert [(one["version"], one["state"]) for one in states] == [("1", "AVAILABLE")]


def test_several_versions_of_a_folder_of_one_version_are_refused(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(ConfigError, match=r"--versions needs a folder of versions\. Received one"):
        serve(str(tmp_path / "1"), port=0, versions=2)


def _opened(address: str, body: bytes | None = None) -> Any:
    """Return the answer of a URL, or the HTTPError with which the server answers."""
    try:
        return urllib.request.urlopen(address, body, timeout=20)
    except urllib.error.HTTPError as error:  # while the model is loading
        return error


@pytest.mark.slow
def test_a_program_reads_the_ports_and_the_states_of_the_versions(models, tmp_path):
    shutil.copytree(models / "images", tmp_path / "model" / "3")
    command = [sys.executable, "-m", "imgpipe.pipeline.cli", "serve", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for text in process.stdout:
        lines.append(json.loads(text))
        json_formats.conform("serve", lines[-1])
        if lines[-1].get("state") == "AVAILABLE":
            break
    with urllib.request.urlopen(lines[0]["page"], timeout=20) as answer:
        assert b"<title>Try the model</title>" in answer.read()
    request = b'{"instances": [{"b64": "bm8gaW1hZ2U="}]}'
    with contextlib.closing(
        _opened(f"{lines[0]['rest']}/v1/models/imgpipe:predict", request)
    ) as answer:
        assert b"Unknown image file format" in answer.read()
    process.terminate()
    rest, log = process.communicate(timeout=40)
    assert lines[0]["event"] == "listening"
    assert lines[0]["models"] == {"imgpipe": str(tmp_path / "model")}
    assert lines[-1]["version"] == 3
    assert json.loads(rest.splitlines()[-1])["finished"] is True
    if not machine.has_gpu():
        assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in log.splitlines()), log


def test_an_unwritable_json_file_is_refused_at_once(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    for file, words in (
        (tmp_path / "gone" / "lines", "--json .*its folder does not exist"),
        (tmp_path, r"--json .* is a folder\. Name a file"),
    ):
        arguments = ["serve", str(tmp_path / "1"), "--port", "0", "--json", str(file)]
        with pytest.raises(ConfigError, match=words):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_folder_that_is_not_named_by_a_version_is_refused(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "saved_model.pb").touch()
    with pytest.raises(ConfigError, match=r"not named by a version.*Rename it, for example: mv"):
        serve(str(tmp_path / "export"), port=0)


def test_options_that_need_others_are_refused(tmp_path):
    for options, words in (
        ({"web": False, "collect": tmp_path}, r"--collect needs the web page\. Leave out --no-web"),
        ({"log_images": True}, "--log-images needs --request-log PREFIX"),
        ({"log_share": 0.5}, "--log-share needs --request-log PREFIX"),
    ):
        with pytest.raises(ConfigError, match=words):
            serve(str(tmp_path), port=0, **options)
