"""``imgpipe serve`` shows the page, unless it is told not to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.commands.serve import page_flags
from imgpipe.serving.server import flags

_LINES = 200
"""Number of lines of the log within which the server says where it listens."""


@pytest.fixture
def start(models, tmp_path) -> Iterator[Callable[..., str]]:
    """Run ``imgpipe serve`` on free ports and return the address of its REST interface."""
    shutil.copytree(models / "images", tmp_path / "model" / "1")
    running = []

    def run(*options: str) -> str:
        command = [sys.executable, "-m", "imgpipe.pipeline.cli", "serve", str(tmp_path)]
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
def test_the_page_is_there_unless_it_is_switched_off(start):
    with urllib.request.urlopen(start() + "/", timeout=20) as answer:
        assert b"<title>Try the model</title>" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(start("--no-web") + "/", timeout=20)
    refused.value.close()


def test_images_are_only_collected_where_there_is_a_page(tmp_path, capsys):
    assert page_flags(False, None) == ["--web_page=false"]
    folder = tmp_path / "kept"
    assert page_flags(True, folder) == ["--web_page=true", f"--collect_directory={folder}"]
    with pytest.raises(ConfigError, match=r"--collect needs the web page\. Leave out --no-web"):
        page_flags(False, folder)
    with pytest.raises(SystemExit, match="2"):
        flags.parse(["--model_base_path=m", f"--collect_directory={folder}"])
    assert "--collect_directory needs --web_page=true" in capsys.readouterr().err
