"""What the page is told of a version: its classes, and whether an image is unlike all of them."""

import json
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest

from imgpipe.serving.server.corrections import MOST_BYTES, Corrections
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.web import pages
from tests.serving.quick import Rest, photograph, running

FIGURES = "validation accuracy 0.950 (95 of 100 images correct)"
CLASSES = [f"class {number}" for number in range(40)]


@pytest.fixture(scope="module")
def rest(models, tmp_path_factory):
    """Serve an image classifier that has names of classes, and no distribution of its images."""
    base = tmp_path_factory.mktemp("known")
    shutil.copytree(models("images"), base / "7")
    (base / "7" / "assets").mkdir(exist_ok=True)
    (base / "7" / "assets" / "vocabulary.txt").write_text("\n".join(CLASSES))
    (base / "7" / "manifest.json").write_text(json.dumps({"figures": FIGURES, "files": {}}))
    with running(base, "imgpipe", rest_api_port=-1, web_page=True) as server:
        yield Rest(server)


def path(**asked: str) -> str:
    """Return the address of the endpoint; by default for version 7 of `imgpipe`."""
    return f"/web/knowledge?{urlencode({'model': 'imgpipe', 'version': '7'} | asked)}"


def test_of_many_classes_the_first_are_named(rest):
    told = rest.get(path()).json()
    assert told == {
        "classes": CLASSES[: pages.SHOWN],
        "count": len(CLASSES),
        "figures": FIGURES,
        "tells_unlike": False,
        "corrects": False,
    }
    assert rest.get(path(version="")).json() == told, "without a number it is the newest"


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "nope"}, 404, "Servable not found for request"),
        ({"model": ""}, 404, "This server serves one model: imgpipe"),
        ({"version": "8"}, 404, "Servable not found for request"),
        ({"version": "../7"}, 400, "A version is a whole number. Received: '../7'."),
    ],
)
def test_what_does_not_exist_is_refused(rest, asked, status, words):
    answer = rest.get(path(**asked))
    assert answer.status == status
    assert words in answer.error()


def kept(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))


@pytest.fixture(scope="module")
def correcting(models, tmp_path_factory):
    """Serve a model with corrections, also under a name that a proxy passes on."""
    base = tmp_path_factory.mktemp("correcting")
    shutil.copytree(models("images"), base / "model" / "7")
    corrections = Corrections(base / "corrections")
    settings = {"web_page": True, "corrections": corrections, "allowed_hosts": ["model.example"]}
    with running(base / "model", "imgpipe", rest_api_port=-1, **settings) as server:
        yield Rest(server), corrections.folder


def test_an_image_is_kept_moved_and_taken_out_and_no_answer_names_a_path(correcting):
    rest, folder = correcting
    image = photograph()
    for label in ("rock", "paper", "paper"):
        answer = rest.ask("POST", path(label=label), image)
        assert (answer.status, answer.json()) == (200, {"label": label})
        [name] = kept(folder)
        assert name.startswith(f"{label}/") and (folder / name).read_bytes() == image
    assert rest.ask("POST", path(label=""), image).status == 200
    assert not kept(folder)


@pytest.mark.parametrize(
    ("label", "image", "words"),
    [
        ("nobody", photograph(), "Expected one of the classes of the model"),
        ("../rock", photograph(), "Expected one of the classes of the model"),
        ("rock", b"milk and eggs", "the file is no image, but text"),
        ("rock", b"\xff\xd8\xff" + bytes(40_000_000), "the JPEG file"),
        ("rock", photograph()[:-40], "the JPEG file is cut short"),
    ],
)
def test_only_images_that_decode_of_classes_of_the_model_are_kept(correcting, label, image, words):
    rest, folder = correcting
    answer = rest.ask("POST", path(label=label), image)
    assert answer.status == 400 and words in answer.error()
    assert str(folder) not in answer.error() and not kept(folder)


@pytest.mark.parametrize("label", ["..", "a/b"])
def test_a_class_that_names_no_folder_keeps_nothing(tmp_path, label):
    with pytest.raises(StatusError, match="No folder can have the name of the class"):
        Corrections(tmp_path / "kept").keep(label, ["..", "a/b"], photograph())
    assert not kept(tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Forwarded": "for=192.0.2.43"},
        {"Via": "1.1 proxy"},
        {"X-Forwarded-For": "192.0.2.43"},
        {"x-forwarded-proto": "https"},
        {"X-Real-IP": "192.0.2.43"},
        {"Host": "model.example"},
        {"Origin": "https://model.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_what_a_proxy_passes_on_is_not_kept_and_not_offered(correcting, headers):
    rest, folder = correcting
    answer = rest.ask("POST", path(label="rock"), photograph(), headers)
    assert answer.status == 403 and "none that a proxy passes on" in answer.error()
    assert not kept(folder)
    assert rest.get(path()).json()["corrects"]
    assert not rest.ask("GET", path(), headers=headers).json()["corrects"]


def test_corrections_have_a_largest_size(correcting):
    rest, folder = correcting
    first = photograph(1)
    assert rest.ask("POST", path(label="rock"), first).status == 200
    full = folder / "rock" / "full.jpg"
    with full.open("wb") as file:
        file.truncate(MOST_BYTES - 5_000)
    before = kept(folder)
    answer = rest.ask("POST", path(label="rock"), photograph(2))
    assert answer.status == 429 and answer.error().startswith("The corrections have 100 MB")
    assert kept(folder) == before
    assert rest.ask("POST", path(label="paper"), first).status == 200, "it may still be moved"
    full.unlink()
    assert rest.ask("POST", path(label="rock"), photograph(2)).status == 200


def test_an_image_that_cannot_be_written_is_an_answer_without_the_path(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StatusError, match="The image cannot be kept: ") as error:
        Corrections(tmp_path / "file").keep("rock", ["rock"], photograph())
    assert str(tmp_path) not in str(error.value)


def test_a_server_without_corrections_keeps_nothing(rest):
    answer = rest.ask("POST", f"{path()}&label=class+1", photograph())
    assert answer.status == 403 and "imgpipe serve --corrections takes those" in answer.error()
    answer = rest.ask("POST", path(), photograph(), {"Origin": "http://evil.example"})
    assert answer.status == 403 and "from a page of another site" in answer.error()
