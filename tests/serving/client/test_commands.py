"""The command `imgpipe predict` against a real server."""

from pathlib import Path

import pytest

from tests.command import imgpipe
from tests.serving.quick import photograph


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "a ö.jpg"
    file.write_bytes(photograph(0))
    return str(file)


def test_refusals_are_reported_in_the_words_of_the_server(photo, images):
    for more, words in (
        (("--model", "other"), "Servable not found for request: Latest(other)"),
        (("--version", "3"), "Servable not found for request: Specific(imgpipe, 3)"),
        (("--server", f"http://{images}"), "The client speaks gRPC"),
    ):
        result = imgpipe("predict", photo, "--server", images, *more)
        assert result.returncode in (1, 2), result.stderr
        assert words in result.stderr


def test_a_server_of_another_model_is_asked_by_its_name(photo, half):
    result = imgpipe("predict", photo, "--server", half)
    assert result.returncode == 2
    assert "This server serves one model: half." in result.stderr.replace("\n", " ")
    assert "Name the model with --model NAME." in result.stderr
