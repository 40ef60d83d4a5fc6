"""Photographs of iPhones: transcoded with pi-heif, otherwise rejected with a remedy."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from imgpipe.components.common.image_file import header
from imgpipe.components.common.image_file.content import for_the_model
from imgpipe.components.common.image_file.header import as_png, by_pillow, probe
from imgpipe.serving.look import Look
from tests.command import imgpipe
from tests.images import encoded, noise

LIMIT = 1_000_000
#: 64 x 48 pixels, the left half blue and the right half red, which the file says to turn right.
PHOTOGRAPH = Path(__file__).with_name("photograph.heic").read_bytes()


@pytest.fixture
def without_the_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take pi-heif away, as where the extra is not installed."""
    Image.init()
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    header._plugins.cache_clear()
    yield
    header._plugins.cache_clear()


def test_a_photograph_is_read_upright():
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    found = probe(Look(PHOTOGRAPH), LIMIT)
    assert (found.width, found.height, found.format, found.frames) == (48, 64, "HEIF", 1)
    upright, described = by_pillow(Look(PHOTOGRAPH))
    png = as_png(upright)
    assert described == "HEIF (RGB)"
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (48, 64)
        red, _, blue = image.getpixel((24, 60))
        top_red, _, top_blue = image.getpixel((24, 4))
    assert (blue > red) != (top_blue > top_red), "the halves are one above the other"
    assert for_the_model(PHOTOGRAPH, LIMIT) == png


def test_a_damaged_photograph_is_refused():
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    for damaged in (PHOTOGRAPH[:300], PHOTOGRAPH[:530], PHOTOGRAPH[:24]):
        assert for_the_model(damaged, LIMIT) == damaged
        assert "HEIC" in header.converted_formats(), (
            "the format is accepted, and this file is damaged"
        )


def test_without_the_package_the_remedy_has_two_lines(without_the_package: None, tmp_path):
    assert "HEIC" not in header.converted_formats()
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(encoded(noise(ord(name))))
        (tmp_path / "photos" / name / "IMG.heic").write_bytes(PHOTOGRAPH + name.encode())
    said = imgpipe("check", str(tmp_path / "photos")).stdout
    assert "HEIC, a format that is not accepted" in said
    assert "pip install 'pi-heif>=1.4'\n" in said
    assert "Settings › Camera › Formats › Most Compatible\n" in said
