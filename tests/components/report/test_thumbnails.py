"""Thumbnails are small and re-encoded, and bytes that are no image give none."""

import base64
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from imgpipe.components.report.thumbnails import SIDE, SMALL_SIDE, Thumbnails, thumbnail
from tests.components.report.report_facts import jpeg
from tests.images import encoded

BROKEN = Path(__file__).parents[4] / "shared" / "data" / "broken_images"


def opened(uri):
    """Return the image in a data URI."""
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_the_longer_side_is_limited_and_proportions_are_kept():
    with opened(thumbnail(jpeg(size=(640, 320)))) as image:
        assert image.size == (SIDE, SIDE // 2)


def test_thumbnails_become_smaller_once_the_page_holds_many_large_ones():
    import numpy as np

    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (400, 400, 3), np.uint8))
    data = encoded(noise, "JPEG")
    made = Thumbnails({str(number): data for number in range(600)})
    uris = [made.uri(str(number)) for number in range(600)]
    assert opened(uris[0]).size == (SIDE, SIDE)
    assert opened(uris[-1]).size == (SMALL_SIDE, SMALL_SIDE)
    assert sum(map(len, uris)) < 10_000_000


def test_a_small_image_is_not_enlarged():
    with opened(thumbnail(jpeg(size=(28, 28)))) as image:
        assert image.size == (28, 28)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("P", "GIF"), ("L", "BMP"), ("CMYK", "JPEG"), ("1", "PNG")]
)
def test_every_mode_becomes_a_jpeg(mode, kind):
    assert thumbnail(encoded(Image.new(mode, (50, 40)), kind))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"GIF89a", b"no image at all" * 9])
def test_bytes_without_an_image_give_none(data):
    assert thumbnail(data) == ""


def test_a_truncated_file_has_a_thumbnail_and_the_pillow_setting_is_restored():
    data = encoded(Image.effect_noise((400, 400), 90), "JPEG")
    assert thumbnail(data[: len(data) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_pixel_bomb_is_not_decoded():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    assert thumbnail(b"\x89PNG\r\n\x1a\n" + chunk) == ""


def test_an_unknown_hash_has_no_image():
    made = Thumbnails({"a": jpeg()})
    assert made.uri("a").startswith("data:")
    assert made.uri("b") == made.uri(None) == made.uri("") == ""


def test_damaged_files_have_a_thumbnail_or_none_and_raise_nothing():
    if not BROKEN.is_dir():
        pytest.skip("needs ../shared/data/broken_images")
    uris = {path.name: thumbnail(path.read_bytes()) for path in sorted(BROKEN.iterdir())}
    assert "" in uris.values() and len(set(uris.values())) > 100
    for name, uri in uris.items():
        assert uri == "" or uri.startswith("data:image/jpeg;base64,"), name
