"""The header probe reads the size before the image is decoded, and survives any bytes."""

import io
import struct

import pytest
from PIL import ExifTags, Image

from imgpipe.components.common.image_file.header import Header, probe
from imgpipe.serving.look import Look
from tests.images import encoded
from tests.serving.test_image_header import png_bomb

LIMIT = 100_000_000


def test_pixel_bombs_are_measured_and_not_decoded(encode):
    assert probe(Look(png_bomb(60_000, 60_000)), LIMIT).pixels == 3_600_000_000
    header = b"RIFF\x1e\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2
    assert probe(Look(header), LIMIT).width == 16383


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8\xff", b"BM", b"GIF89a", b"\x89PNG\r\n"])
def test_garbage_has_no_size_and_raises_no_exception(data):
    header = probe(Look(data), LIMIT)
    assert (header.pixels, header.mode) == (0, "")


def test_an_icon_is_rejected_without_being_opened():
    """Pillow's reader of icons decodes the image inside before its size is known."""
    inside = io.BytesIO()
    Image.new("RGB", (300, 300)).save(inside, "PNG")
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(inside.getvalue()), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + inside.getvalue()
    assert probe(Look(icon), 1000) == Header()
    assert Look(icon).refusal().startswith("ICO, a format that is not accepted")


def test_the_size_of_a_jpeg_that_only_the_serving_op_reads_is_known(encode):
    data = encode(size=(40, 32))
    hidden = data[:2] + b"\xff\x01" + data[2:]
    header = probe(Look(hidden), 1000)
    assert (header.width, header.height) == (40, 32)


def test_the_tables_and_the_camera_of_a_jpeg_are_read():
    block = Image.Exif()
    block[ExifTags.Base.Make], block[ExifTags.Base.Model] = "Canon", "EOS 5D\0"
    image = Image.new("RGB", (32, 32))
    fine, coarse = (
        probe(
            Look(encoded(image, "JPEG", quality=quality, subsampling=subsampling, exif=block)),
            LIMIT,
        )
        for quality, subsampling in ((95, "4:4:4"), (60, "4:2:0"))
    )
    assert (fine.subsampling, coarse.subsampling) == ("4:4:4", "4:2:0")
    assert 0 < fine.jpeg_tables < coarse.jpeg_tables
    assert fine.camera == "EOS 5D", "also without a moment"
    del block[ExifTags.Base.Model]
    assert probe(Look(encoded(image, "JPEG", exif=block)), LIMIT).camera == "Canon"
    png = probe(Look(encoded(image, "PNG")), LIMIT)
    assert (png.jpeg_tables, png.subsampling, png.camera) == (0, "", "")
