"""A model in a folder whose path TensorFlow takes for a pattern, as of a copy "model [1]"."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imgpipe.models.errors import ConfigError
from imgpipe.serving.server import settings
from imgpipe.serving.server.settings import Settings
from tests.command import ran
from tests.images import encoded, noise

_WORDS = r"expected a path without \*, \?, \[ and .*Received: .*Rename it: mv "


@pytest.fixture(params=["model [1]", "model*", "what?", "back\\slash"])
def copied(request, out, tmp_path) -> Path:
    """Return a copy of an output folder under a name that is a pattern."""
    return Path(shutil.copytree(out, tmp_path / request.param))


def test_every_command_of_a_model_refuses_it_with_the_sentence_of_run(copied, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(noise(1)))
    photos = tmp_path / "photos" / "rock"
    photos.mkdir(parents=True)
    shutil.copy(photo, photos)
    for words in (
        ["predict", "--model", copied, photo],
        ["predict", "--model", copied / "model" / "1", photo],
        ["evaluate", "--model", copied, "--data", photos.parent],
        ["explain", photo, "--model", copied],
        ["export", "keras", copied, "--to", tmp_path / "m.keras"],
        ["serve", copied],
    ):
        with pytest.raises(ConfigError, match=_WORDS):
            ran(*words)


def test_a_server_refuses_it_before_it_loads(copied):
    with pytest.raises(ConfigError, match=_WORDS):
        settings.of_settings(Settings(model_base_path=str(copied / "model")))
