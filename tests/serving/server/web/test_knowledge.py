"""What the page is told of a version: its classes, and whether an image is unlike all of them."""

import json
import shutil
from urllib.parse import urlencode

import pytest

from imgpipe.serving.server.corrections import Corrections
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


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("nobody", "Expected one of the classes of the model"),
        ("..", "No folder can have the name of the class"),
        ("a/b", "No folder can have the name of the class"),
        ("a", "the file is no image, but text"),
    ],
)
def test_only_images_of_classes_are_kept(tmp_path, label, words):
    with pytest.raises(StatusError, match=words):
        Corrections(tmp_path, "").keep(label, ["..", "a", "a/b"], b"milk and eggs")
    assert not list(tmp_path.iterdir())


def test_a_server_without_corrections_keeps_nothing(rest):
    answer = rest.ask("POST", f"{path()}&label=class+1", photograph())
    assert answer.status == 403 and "takes no corrections" in answer.error()
    answer = rest.ask("POST", path(), photograph(), {"Origin": "http://evil.example"})
    assert answer.status == 403 and "from a page of another site" in answer.error()
