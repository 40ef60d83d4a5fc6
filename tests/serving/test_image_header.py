"""The numbers of pixels that headers state equal those after decoding.

Data that is not an image is left to the decoder.
"""

import random
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.serving.look import Look
from tests.images import encoded, noise


def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG whose header states width x height grey pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    line = zlib.compress(b"\0" * (width + 1) * 64, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", line)


def compressed_texts(count: int = 2, name: bytes = b"zTXt", size: int = 3 << 20) -> bytes:
    """Return a PNG of one pixel with texts of `size` zeros each, which are compressed."""
    plain = encoded(Image.new("L", (1, 1)), "PNG")
    head = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0en\0b\0"}[name]
    text = chunk(name, head + zlib.compress(bytes(size), 9))
    return plain[:33] + text * count + plain[33:]


def many_scans(count: int = 200) -> bytes:
    """Return a progressive JPEG whose last scan is repeated without its content."""
    data = encoded(Image.new("L", (16, 16), 128), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, at + 2)
    return data[:-2] + data[at : at + 2 + length] * count + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        (many_scans(), "206 scans, more than 100"),
        (many_scans(60), ""),
        (compressed_texts(name=b"zTXt"), "compressed texts or profiles of more than 4 MiB"),
        (compressed_texts(name=b"iTXt"), "compressed texts or profiles of more than 4 MiB"),
        (compressed_texts(name=b"iCCP"), "compressed texts or profiles of more than 4 MiB"),
        (compressed_texts(1000, size=100), ""),
        (compressed_texts(1), ""),
        (png_bomb(1, 1) + chunk(b"abCd", b"") * 300_001, "more than 300,000 parts"),
        (b"\xff\xd8" + b"\xff\xe1\0\2" * 10_001, "more than 10,000 parts"),
    ],
    ids=range(9),
)
def test_images_cost_more_than_their_pixels(data, cost):
    assert Look(data).hidden_cost == cost


def test_a_frame_header_is_looked_for_where_one_can_be():
    """A decoder would find it anywhere, and allocate what it asks for."""
    whole = encoded(Image.new("RGB", (300, 200)), "JPEG")
    near, far = (whole[:2] + b"\xff" * count + whole[2:] for count in (60_000, 70_000))
    assert (Look(near).pixels, Look(near).hidden_cost) == (60_000, "")
    assert Look(far).pixels == 0
    assert Look(far).hidden_cost.startswith("a frame header behind more than 65,536 bytes")
    assert Look(whole[:20] + b"\xff" * 80_000).hidden_cost == "", "there is none"


def test_long_comments_of_a_gif_are_a_hidden_cost():
    whole = encoded(Image.new("L", (3, 2)), "GIF")
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 300 + b"\0"
    assert Look(whole[:-1] + comment + b";").hidden_cost == "comments of more than 64 KiB"
    assert Look(whole[:-1] + b"\x21\xfe\x03abc\0" + b";").hidden_cost == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_usual_images_have_no_hidden_cost(kind):
    assert Look(encoded(Image.new("RGB", (300, 200)), kind)).hidden_cost == ""
    scan = b"\xff\xda" * 1000
    jpeg = encoded(Image.new("RGB", (300, 200)), "JPEG", progressive=True, comment=scan)
    assert Look(jpeg + scan).hidden_cost == "", "in a comment and after the end there are no scans"


def test_a_file_may_end_within_a_header():
    for data in (many_scans(), compressed_texts(size=1 << 19)):
        for end in range(0, len(data), 7):
            assert isinstance(Look(data[:end]).hidden_cost, str)
    assert Look(many_scans()[:-2] + b"\xff\xda\0").hidden_cost == "207 scans, more than 100"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"\xff\xc0 no frame header" * 20}),
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0"}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (317, 45), (640, 1201)])
def test_the_header_gives_the_number_of_pixels(kind, options, size):
    image = Image.new("RGB", size, (9, 99, 199))
    assert Look(encoded(image, kind, **options)).pixels == size[0] * size[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd8" + b"\xff\x01" * (1 << 20),
        b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\x01a" * (1 << 20),
        b"GIF89a" + bytes(7) + b"\x21\xfe\x00" * (1 << 20),
    ],
    ids=["JPEG", "GIF", "GIF frames"],
)
def test_a_header_of_very_many_parts_is_over_every_limit(data):
    """To follow all of them would take seconds, in which no other request is answered."""
    assert Look(data).pixels >= 4_000_000_000


def test_a_large_gif_is_read_to_its_end():
    """Its 400,000 sub-blocks have the usual size."""
    frame = struct.pack("<BHHHHBB", 0x2C, 0, 0, 300, 200, 0, 8)
    data = b"GIF89a" + bytes(7) + frame + (b"\xff" + bytes(255)) * 400_000 + b"\x00\x3b"
    assert Look(data).pixels == 60_000


def test_exif_thumbnails_do_not_count():
    image = Image.new("RGB", (300, 200))
    exif = Image.Exif()
    exif[0x010E] = "x" * 2000
    assert Look(encoded(image, "JPEG", exif=exif)).pixels == 60_000


def test_all_frames_of_an_animation_count():
    frames = [Image.fromarray(np.full((40, 50), 60 * i, np.uint8)) for i in range(4)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Look(data).pixels == 4 * 40 * 50


def test_garbage_is_left_to_the_decoder():
    rng = random.Random(1)
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF", b"\xff\x0a", b"")
    for _ in range(3000):
        start = rng.choice(starts)
        found = Look(start + rng.randbytes(rng.randrange(64))).pixels
        assert found >= 0
    assert Look(b"").pixels == 0
    assert Look(b"plain text").pixels == 0


def test_a_png_header_behind_another_chunk_counts():
    """libpng reads it, so that a chunk in its place hid any number of pixels."""
    whole = png_bomb(12_000, 12_000)
    hidden = whole[:8] + chunk(b"teSt", struct.pack(">II", 1, 1)) + whole[8:]
    assert Look(hidden).size == (12_000, 12_000)


@pytest.mark.parametrize("options", [{"lossless": True}, {}], ids=["lossless", "lossy"])
def test_a_webp_image_without_a_chunk_counts(options):
    """libwebp reads it, so that the bytes in the place of the size hid any number of pixels."""
    whole = encoded(noise(3, (45, 317)), "WEBP", **options)
    image = whole[20:]
    bare = b"RIFF" + struct.pack("<I", 4 + len(image)) + b"WEBP" + image
    height, width, _ = tf.io.decode_image(bare, expand_animations=False).shape
    assert Look(bare).size == (width, height)
