"""Tests that `imgpipe predict --model OUT` answers as a server with the same model does."""

import contextlib
import csv
import functools
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import imgpipe
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.application import app
from imgpipe.pipeline.commands.predict import ServerError
from imgpipe.pipeline.published.predicted_images import ImageAnswer, table
from imgpipe.serving.client.errors import InvalidArgument
from imgpipe.serving.client.images import name_of
from tests.command import answered, ran
from tests.command import imgpipe as imgpipe_command
from tests.images import encoded, noise
from tests.pipeline import small_version
from tests.serving.quick import running


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for seed in (1, 2):
        small_version.push(folder, seed)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Return a folder with three images of noise."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encoded(noise(number)))
    return folder


predict = functools.partial(ran, "predict")
rows = functools.partial(answered, "predict")


def test_json_is_utf_8_whatever_the_encoding_of_the_terminal(out, photos):
    photo = (photos / "0.png").rename(photos / "Bücher.png")
    answers = CliRunner(charset="latin-1").invoke(
        app, ["predict", "--model", str(out), str(photo), "--json", "-"]
    )
    (row,) = json.loads(answers.stdout_bytes.decode("utf-8"))
    assert row["image"] == str(photo)


def test_the_answers_are_those_of_a_server(out, photos):
    alone = rows("--model", out, photos)
    assert [row["version"] for row in alone] == [2, 2, 2]
    assert [Path(row["image"]).name for row in alone] == ["0.png", "1.png", "2.png"]
    with running(out / "model", "imgpipe") as server:
        asked = rows("--server", server.target, photos)
    for mine, theirs in zip(alone, asked, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-6)
        mine.pop("probability"), theirs.pop("probability")
        mine.pop("top"), theirs.pop("top")
        assert mine == theirs


def test_a_program_keeps_its_own_level_of_messages(out, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with imgpipe.load(out):
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_a_version_is_chosen_by_number_or_by_its_folder(out, photos):
    by_number = rows("--model", out, "--version", 1, photos)
    assert by_number == rows("--model", out / "model/1", photos)
    assert {row["version"] for row in by_number} == {1}
    assert by_number != rows("--model", out, photos)
    with pytest.raises(ConfigError, match=r"has no version 7. Versions: 1, 2"):
        predict("--model", out, "--version", 7, photos)
    with pytest.raises(ConfigError, match=r"has no version '1'\. Versions: 1, 2\."):
        imgpipe.load(out, version="1")
    with imgpipe.load(out, version=np.int64(1)) as client:
        assert client.folder.name == "1"


def test_files_that_are_no_images_are_named_and_the_others_are_classified(out, photos):
    (photos / "broken.png").write_bytes(b"no image")
    result = predict("--model", out, photos)
    assert result.exit_code == 2
    assert "1 of 4 images could not be classified" in result.stderr
    assert "broken.png: the file is no image, but text." in result.stderr
    assert result.stdout.count("version 2") == 3


def test_decoders_write_nothing_beside_the_answers(out, photos, capfd):
    """libjpeg writes to the file descriptor, of each attempt and without the name of the file."""
    whole = encoded(noise(9, (400, 300)), "JPEG", quality=95)
    for place, length in enumerate((100, 300, 620)):
        (photos / f"{place}.jpg").write_bytes(whole[:length])
    result = predict("--model", out, photos)
    assert result.stderr.count("the JPEG file is cut short: its end is missing") == 3
    assert "JPEG library" not in "".join(capfd.readouterr())


def test_a_folder_becomes_a_table_in_a_file(out, photos, tmp_path):
    photos = photos.rename(tmp_path / "=1+1 Bücher")
    (photos / "broken.png").write_bytes(b"no image")
    file = tmp_path / "labels.csv"
    with contextlib.chdir(tmp_path):
        result = predict("--model", out, photos.name, "--csv", file, "--json", tmp_path / "a.json")
    answers = json.loads((tmp_path / "a.json").read_text())
    assert file.read_bytes().startswith(b"\xef\xbb\xbf"), "a spreadsheet sees that it is UTF-8"
    with file.open(encoding="utf-8-sig", newline="") as opened:
        head, *written = csv.reader(opened)
    assert head == ["file", "label", "probability", "version", "note", "error"]
    for line, answer in zip(written, answers, strict=True):
        assert line[0] == f"'{answer['image']}", "no spreadsheet runs a name as a formula"
        assert line[1] == answer.get("label", "")
        assert line[5].removeprefix("'") == answer.get("error", "")
        assert not line[2] or float(line[2]) == pytest.approx(answer["probability"], abs=1e-6)
    assert [line[3] for line in written] == ["2", "2", "2", ""]
    assert result.stdout.startswith("3 of 4 images: ") and len(result.stdout.splitlines()) == 1
    with contextlib.chdir(tmp_path):
        printed = predict("--model", out, photos.name, "--csv", "-")
    assert list(csv.reader(io.StringIO(printed.stdout))) == [head, *written]
    assert "3 of 4 images: " in printed.stderr
    with pytest.raises(ConfigError, match="would mix on standard output"):
        predict("--model", out, photos.name, "--csv", "-", "--json", "-")


def test_names_of_any_bytes_are_escaped_in_the_table_and_in_the_message_of_a_refused_file():
    path = Path(os.fsdecode(b"a\n\x1b[31m\x07\xe9.jpg"))
    refused = InvalidArgument(f"{name_of(path, 0)}: the file is empty.")
    header, row = csv.reader(io.StringIO(table([ImageAnswer.of(str(path), refused)])))
    assert header[0] == "file"
    assert row[0] == r"a\n\x1b[31m\x07\udce9.jpg"
    assert row[5] == r"a\n\x1b[31m\x07\udce9.jpg: the file is empty."


def test_an_image_unlike_all_that_was_learned_is_named_in_every_answer(tmp_path, photos):
    small_version.push(tmp_path, near=[encoded(noise(number)) for number in (0, 2)])
    answers = functools.partial(predict, "--model", tmp_path, photos)
    assert [row["unlike"] for row in rows("--model", tmp_path, photos)] == [False, True, False]
    words = "unlike all that the model has learned"
    lines = answers().stdout.splitlines()
    assert [words in line for line in lines] == [False, True, False, True], "the summary counts it"
    written = csv.reader(io.StringIO(answers("--csv", "-").stdout))
    assert [line[4] for line in written] == ["note", "", words, ""]
    with running(tmp_path / "model", "imgpipe") as server:
        served = rows("--server", f"localhost:{server.port}", photos)
    assert [row["unlike"] for row in served] == [False, True, False], "as a server says"


def test_answers_below_a_probability_are_unsure(out, photos):
    first, *others = sorted(row["probability"] for row in rows("--model", out, photos))
    limit = ("--unsure-below", (first + others[0]) / 2)
    marked = rows("--model", out, photos, *limit)
    assert sorted(row["probability"] for row in marked if row["unsure"]) == [first]
    assert all(row["label"] in small_version.CLASSES for row in marked)
    text = predict("--model", out, photos, *limit).stdout
    assert "unsure 1" in text.splitlines()[-1] and text.count("unsure") == 2
    written = csv.reader(io.StringIO(predict("--model", out, photos, *limit, "--csv", "-").stdout))
    assert [line[4] for line in written].count("unsure") == 1
    refused = imgpipe_command("predict", str(photos), "--unsure-below", "95")
    assert refused.returncode == 2 and "--unsure-below" in refused.stderr


def test_the_least_certain_image_comes_first_on_request(out, photos):
    (photos / "0.jpg").write_bytes(b"no image")
    sorted_rows = rows("--model", out, photos, "--least-certain-first")
    certainty = [row["probability"] for row in sorted_rows[:-1]]
    assert certainty == sorted(certainty)
    assert "error" in sorted_rows[-1]
    lines = predict("--model", out, photos, "--least-certain-first").stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [row["image"] for row in sorted_rows[:-1]]
    labels = [row["label"] for row in sorted_rows[:-1]]
    assert all(f"{label} {labels.count(label)}" in lines[-1] for label in labels)


def test_without_a_server_the_message_names_the_other_way(photos):
    with pytest.raises(ServerError, match=r"No model server .* needs no server: --model OUT"):
        predict(photos, "--timeout", "2")


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000", "PPM", "AVIF", "BMP"])
def test_files_that_a_run_transcodes_are_answered_as_png(out, tmp_path, kind):
    image = Image.fromarray(noise(5)).convert("1" if kind == "BMP" else "RGB")
    data = encoded(image, kind)
    (tmp_path / "photos").mkdir()
    with Image.open(io.BytesIO(data)) as read:
        as_png = encoded(read.convert("RGB"))
    for number, content in enumerate((data, data, as_png)):
        (tmp_path / "photos" / str(number)).write_bytes(content)
    first, second, png = rows("--model", out, tmp_path / "photos")
    assert first["top"] == second["top"] == png["top"]
    with imgpipe.load(out) as model:
        assert model.predict(data)[0].probability == pytest.approx(png["probability"], abs=1e-6)


def test_a_fork_is_refused_instead_of_waiting_without_end(out, photos):
    with imgpipe.load(out) as model:
        for use in (lambda: model.predict(photos / "0.png"), lambda: imgpipe.load(out)):
            child = os.fork()
            if not child:
                try:
                    use()
                except ResourceError as error:
                    os._exit(42 if "forked after a model was loaded" in str(error) else 1)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_without_a_model_a_server_is_asked_even_beside_a_folder_of_its_name(
    photos, tmp_path, monkeypatch
):
    """A clone of the repository is such a folder."""
    (tmp_path / "imgpipe").mkdir()
    monkeypatch.chdir(tmp_path)
    # Another port than that of a server which may run on this machine.
    monkeypatch.setattr("imgpipe.pipeline.commands.predict._SERVER", "localhost:9")
    with pytest.raises(ServerError, match="localhost:9"):
        predict("--timeout", 0.5, photos)
