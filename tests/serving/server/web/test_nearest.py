"""The training images nearest to an image: what is found, and which requests are refused."""

from __future__ import annotations

import base64
import socket
from typing import Any

import numpy as np
import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.commands.serve import nearest_flags
from imgpipe.serving.server import flags
from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.web.nearest import PATH, TrainingImages

IMAGES = [b"first", b"", b"third image", b"4"]


def write(file: Any, **changes: Any) -> Any:
    """Write a file of four training images, with some arrays replaced; return the file."""
    angles = np.linspace(0, np.pi / 2, 4)
    content = {
        "version": 3,
        "features": np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16),
        "labels": np.array(["rock", "paper", "<b>", "rock"]),
        "paths": np.array([f"{i}.jpg" for i in range(4)]),
        "images": np.frombuffer(b"".join(IMAGES), np.uint8),
        "ends": np.cumsum([len(image) for image in IMAGES]),
    }
    np.savez(file, **(content | changes))
    return file


@pytest.fixture
def server(serve, tmp_path):
    """Serve a model with the web page and the four training images."""
    file = write(tmp_path / "images.npz")
    return serve(RestOptions(0, web=True, training_images=file))


def test_the_nearest_images_come_first(server):
    assert server.get(PATH).json() == {"versions": [3]}
    answer = server.ask("POST", PATH, {"version": 3, "features": [0.1, 5.0]})
    found = answer.json()["nearest"]
    assert [one["path"] for one in found] == ["3.jpg", "2.jpg", "1.jpg", "0.jpg"]
    assert found[0]["similarity"] > 0.99 > found[1]["similarity"]
    assert found[1]["label"] == "<b>"
    head = "data:image/jpeg;base64,"
    assert [base64.b64decode(one["image"].removeprefix(head)) for one in found] == IMAGES[::-1]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"version": 3, "features": [1.0]}, "Expected 2 finite features"),
        ({"version": 3, "features": [1.0, None]}, "Expected 2 finite features"),
        ({"version": 3, "features": ["x", 1]}, "features"),
        ({"version": 4, "features": [1.0, 2.0]}, "training images of version 3 only"),
        ({"version": 3}, "features"),
        (b"{", "features"),
        (b"[" * 100_000, "features"),
        (b'{"version": 3, "features": [1' + b"0" * 400 + b"]}", "features"),
    ],
)
def test_invalid_requests_are_refused(server, body, words):
    answer = server.ask("POST", PATH, body)
    assert answer.status == 400 and words in answer.error()


def test_requests_of_other_sites_and_too_large_bodies_are_refused(server):
    body = {"version": 3, "features": [1.0, 2.0]}
    answer = server.ask("POST", PATH, body, {"Origin": "http://evil.example"})
    assert answer.status == 403 and "only shown on the page of this server" in answer.error()
    assert server.ask("POST", PATH, body, {"Host": "evil.example"}).status == 403
    assert "more than 4,194,304 bytes" in server.ask("POST", PATH, b" " * (5 << 20)).error()


def test_a_request_that_never_ends_is_refused(serve, tmp_path):
    file = write(tmp_path / "images.npz")
    server = serve(RestOptions(0, web=True, training_images=file, timeout=0.5))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{"
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    assert b" 504 " in answer.splitlines()[0]


def test_no_images_are_found_without_training_images(serve):
    server = serve(RestOptions(0, web=True))
    assert server.get(PATH).json() == {"versions": []}
    answer = server.ask("POST", PATH, {"version": 3, "features": [1.0, 2.0]})
    assert (answer.status, answer.body) == (404, b"")


def test_a_damaged_file_of_training_images_is_refused(tmp_path):
    (tmp_path / "text").write_text("no file of arrays")
    for file in (tmp_path / "text", tmp_path / "none"):
        with pytest.raises(BadArgument, match=r"cannot be read .* Expected: the file that imgpipe"):
            TrainingImages(file)
    objects = write(tmp_path / "objects.npz", labels=np.array([{}], object))
    with pytest.raises(BadArgument, match="cannot be read"):
        TrainingImages(objects)


def test_nearest_images_need_the_web_page_and_a_local_folder(capsys):
    with pytest.raises(ConfigError, match=r"--nearest needs the web page\. Leave out --no-web"):
        nearest_flags(False, "out")
    with pytest.raises(ConfigError, match="needs an output folder on this machine, not gs://a"):
        nearest_flags(True, "gs://a")
    with pytest.raises(SystemExit, match="2"):
        flags.parse(["--model_base_path=m", "--training_images_file=x"])
    assert "--training_images_file needs --web_page=true" in capsys.readouterr().err
