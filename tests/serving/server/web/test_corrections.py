"""Images whose labels people correct: which are kept, under which name, and which refused."""

from __future__ import annotations

import hashlib
import shutil
import stat
from typing import Any
from urllib.parse import urlencode

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.settings import Settings
from imgpipe.serving.server.web import collection
from tests.serving.quick import quick
from tests.serving.server.rest.conftest import Answer, Rest


def paged(**changes: Any) -> Settings:
    """Return settings of a server with the page."""
    return quick(rest_api_port=-1, web_page=True, **changes)


@pytest.fixture(scope="module")
def base(models, tmp_path_factory):
    """Return the base path of the image classifier with version 7."""
    base = tmp_path_factory.mktemp("corrected")
    shutil.copytree(models / "images", base / "7")
    return base


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder, not yet created, in which corrected images are kept."""
    return tmp_path_factory.mktemp("outer") / "new" / "kept"


@pytest.fixture(scope="module")
def rest(base, folder):
    """Serve the model and collect corrections in the folder."""
    with ModelServer("imgpipe", base, paged(collect_directory=str(folder))) as server:
        server.wait_until_available(60)
        yield Rest(server)


@pytest.fixture(autouse=True)
def empty(folder):
    """Delete the kept images after each test."""
    yield
    for kept in folder.glob("*"):
        shutil.rmtree(kept)


def correct(rest: Rest, data: bytes, headers: dict[str, str] | None = None, **asked: str) -> Answer:
    """Send a correction; by default version 7 of `imgpipe` and the label `rock`."""
    asked = {"model": "imgpipe", "version": "7", "label": "rock"} | asked
    return rest.ask("POST", f"/web/corrections?{urlencode(asked)}", data, headers)


def test_an_image_is_kept_under_its_class_and_readable_by_its_owner_only(rest, folder, make_image):
    assert rest.get("/web/corrections").json() == {"collects": True}
    for data, suffix in ((make_image(1), "jpg"), (make_image(2, "PNG"), "png")):
        path = f"rock/{hashlib.sha256(data).hexdigest()}.{suffix}"
        for _ in range(2):
            assert correct(rest, data).json() == {"path": path}
        assert (folder / path).read_bytes() == data
        assert stat.S_IMODE((folder / path).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "rock").stat().st_mode) == 0o700
    assert len(list(folder.rglob("*.*"))) == 2


def test_the_last_correction_of_an_image_replaces_earlier_ones(rest, folder, make_image):
    for label in ("rock", "paper"):
        assert correct(rest, make_image(), label=label).status == 200
    (kept,) = folder.glob("*/*")
    assert kept.parent.name == "paper"


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"label": "lizard"}, 400, "'lizard' is not a class of the model"),
        ({"label": "../rock"}, 400, "'../rock' is not a class of the model"),
        ({"label": ""}, 400, "A correction names a model and a label"),
        ({"model": "nope"}, 404, "Servable not found for request"),
        ({"version": "8"}, 404, "Servable not found for request"),
        ({"version": "../7"}, 400, "A version is a whole number. Received: '../7'."),
        ({"data": "<script>"}, 400, "the file is no image, but text"),
    ],
)
def test_invalid_corrections_are_refused(rest, folder, make_image, asked, status, words):
    answer = correct(rest, asked.pop("data", "").encode() or make_image(), **asked)
    assert answer.status == status
    assert words in answer.error()
    assert not list(folder.glob("*"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_corrections_from_pages_of_other_sites_are_refused(rest, folder, make_image, headers):
    answer = correct(rest, make_image(), headers)
    assert answer.status == 403
    assert "only taken from the page of this server" in answer.error()
    assert not list(folder.glob("*"))
    host = f"localhost:{rest.port}"
    own = {"Origin": f"http://{host}", "Host": host}
    assert correct(rest, make_image(), own).status == 200


def test_corrections_beyond_the_limits_of_the_folder_are_refused(
    rest, folder, make_image, monkeypatch
):
    monkeypatch.setattr(collection, "MAX_IMAGES", 1)
    assert correct(rest, make_image(1)).status == 200
    assert "is full: 1 images" in correct(rest, make_image(2)).error()
    monkeypatch.setattr(collection, "MAX_IMAGES", 10)
    monkeypatch.setattr(collection, "MAX_BYTES", 10)
    assert "bytes. Move them" in correct(rest, make_image(2)).error()
    assert len(list(folder.glob("*/*"))) == 1


def test_the_server_does_not_start_with_an_unwritable_folder(base, tmp_path):
    (tmp_path / "file").touch()
    settings = paged(collect_directory=str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"no images can be kept in .*file: "):
        ModelServer("imgpipe", base, settings)
