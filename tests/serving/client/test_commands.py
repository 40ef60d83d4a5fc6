"""The command `imgpipe predict` against a real server."""

import json
from pathlib import Path

import pytest

from tests import json_formats
from tests.command import imgpipe


@pytest.fixture
def folder(tmp_path: Path, make_image) -> Path:
    """Return a folder with 40 valid images and two other files in two subfolders."""
    for index in range(40):
        file = tmp_path / f"{'ab'[index % 2]} ö" / f"{index:02}.jpg"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(make_image(index))
    (tmp_path / "a ö" / "notes.txt").write_text("no image")
    (tmp_path / "b ö" / "empty.png").touch()
    return tmp_path


def test_the_json_output_has_a_row_for_every_file(folder, images):
    result = imgpipe("predict", str(folder), "--server", images, "--json", "-")
    rows = json.loads(result.stdout)
    json_formats.conform("predict", rows)
    assert [Path(row["image"]).name for row in rows if "error" in row] == ["notes.txt", "empty.png"]
    good = [row for row in rows if "error" not in row]
    assert len(good) == 40
    for row in good:
        assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
        assert len(row["top"]) == 3


def test_refusals_are_reported_in_the_words_of_the_server(folder, images):
    file = folder / "a ö" / "00.jpg"
    for more, words in (
        (("--model", "other"), "Servable not found for request: Latest(other)"),
        (("--version", "3"), "Servable not found for request: Specific(imgpipe, 3)"),
        (("--server", f"http://{images}"), "The client speaks gRPC"),
    ):
        result = imgpipe("predict", str(file), "--server", images, *more)
        assert result.returncode in (1, 2), result.stderr
        assert words in result.stderr


def test_a_server_of_another_model_is_asked_by_its_name(folder, half):
    result = imgpipe("predict", str(folder / "a ö" / "00.jpg"), "--server", half)
    assert result.returncode == 2
    assert "This server serves one model: half." in result.stderr.replace("\n", " ")
    assert "Name the model with --model NAME." in result.stderr
