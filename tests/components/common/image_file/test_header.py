"""The header probe reads the size before the image is decoded, and survives any bytes."""

import struct

from PIL import ExifTags, Image

from imgpipe.components.common.image_file.header import Header, probe
from imgpipe.serving.look import Look
from tests.images import encoded


def test_an_icon_is_rejected_without_being_opened():
    """Pillow's reader of icons decodes the image inside before its size is known."""
    inside = encoded(Image.new("RGB", (300, 300)))
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(inside), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + inside
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

    def probed(kind, **options):
        return probe(Look(encoded(image, kind, **options)), 10_000)

    fine = probed("JPEG", quality=95, subsampling="4:4:4", exif=block)
    coarse = probed("JPEG", quality=60, subsampling="4:2:0", exif=block)
    assert (fine.subsampling, coarse.subsampling) == ("4:4:4", "4:2:0")
    assert 0 < fine.jpeg_tables < coarse.jpeg_tables
    assert fine.camera == "EOS 5D", "also without a moment"
    del block[ExifTags.Base.Model]
    assert probed("JPEG", exif=block).camera == "Canon"
    png = probed("PNG")
    assert (png.jpeg_tables, png.subsampling, png.camera) == (0, "", "")
