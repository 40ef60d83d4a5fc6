"""The quality checks, tested on hand-made images with thresholds and severities."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from imgpipe.components.common.image_file.content import inspected
from imgpipe.components.common.image_file.header import by_pillow
from imgpipe.components.common.image_row import served_bytes
from imgpipe.components.image_filter.judge import checks
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.serving.look import Look
from tests.images import distance, encoded, exif, noise, turned


def scene(size=(160, 120), light=1.0, seed=0):
    """Return an RGB image of coloured blocks with grain, in which no check finds a problem."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
    grain = random.integers(-20, 20, (size[1], size[0], 3))
    return Image.fromarray(((np.asarray(image) * 0.9 + grain).clip(0, 255) * light).astype("uint8"))


def warned(record, settings=None):
    found = examine(record, settings or JudgeSettings())
    assert all(each.severity != "reject" for each in found)
    return {each.reason for each in found if each.severity == "warn"}


@pytest.fixture
def look(records):
    """Return a function (image or bytes, suffix) → its record after inspection."""

    def make(image, suffix="png"):
        data = image if isinstance(image, bytes) else encoded(image)
        (record,) = records({f"a/x.{suffix}": data}).values()
        return record

    return make


@pytest.mark.parametrize(
    ("reason", "image"),
    [
        ("dark", scene(light=0.25)),
        ("light", Image.fromarray(255 - (np.asarray(scene()) // 40))),
        ("low_information", Image.new("RGB", (160, 120), (90, 160, 30))),
        ("blurry", scene((640, 480), seed=3).filter(ImageFilter.GaussianBlur(40))),
        ("odd_aspect_ratio", scene((300, 100))),
        ("greyscale", scene().convert("L")),
        ("greyscale", scene().convert("L").convert("RGB")),
    ],
)
def test_each_fault_is_warned_of_and_the_image_is_kept(look, reason, image):
    assert reason in warned(look(image))


def test_a_fault_that_a_setting_rejects_says_how_the_image_is_kept(look):
    [rejection] = examine(look(scene(light=0.25)), JudgeSettings(severity={"dark": "reject"}))
    assert rejection.remedy == "to keep them: --set judge.severity.dark=warn"


def test_thresholds_decide_and_are_exact_at_the_edge(look):
    record = look(scene())
    for check in checks.CHECKS:
        if check.name in ("dark", "low_information", "blurry"):
            loud = JudgeSettings(threshold={check.name: 10.0})
            assert check.name in warned(record, loud), check.name
            silent = JudgeSettings(threshold={check.name: 0.0})
            assert check.name not in warned(record, silent), check.name
    wide = look(scene((200, 70)))  # an aspect ratio of exactly 0.35
    assert "odd_aspect_ratio" not in warned(wide)
    assert "odd_aspect_ratio" in warned(look(scene((200, 69))))


def test_transparent_pixels_are_warned_of(look):
    image = scene().convert("RGBA")
    assert "alpha" not in warned(look(image))  # an alpha channel in which all pixels are opaque
    alpha = Image.new("L", image.size, 255)
    alpha.paste(254, (0, 0, 80, 120))
    image.putalpha(alpha)
    (finding,) = examine(look(image), JudgeSettings())
    assert finding.detail == "50.0% of the pixels are not opaque"
    assert "magick mogrify -background white" in finding.remedy


def test_cmyk_and_sixteen_bit_images_are_warned_of(look):
    cmyk = look(encoded(scene().convert("CMYK"), "JPEG"), "jpg")
    assert warned(cmyk) == {"cmyk"}
    deep = look(encoded(Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13)))
    assert "sixteen_bit" in warned(deep)
    colours = np.random.default_rng(0).integers(0, 65536, (32, 40, 3), dtype=np.uint16)
    for colour in (tf.io.encode_png(colours).numpy(), many_bands(3, 16)):
        assert "sixteen_bit" in warned(look(colour)), "Pillow calls it RGB; the header tells"


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_jpeg_is_measured_and_transcoded_upright(look, turn):
    """The model turns it, so that nothing has to be reported or repaired."""
    data = encoded(scene((480, 320)), "JPEG", exif=exif(turn), quality=95)
    record = look(data, "jpg")
    assert examine(record, JudgeSettings()) == []
    assert served_bytes(record, record.image_bytes) is record.image_bytes
    upright = Image.fromarray(turned(np.asarray(scene((480, 320))), turn))
    assert (record.width, record.height) == upright.size
    copy = look(encoded(upright, "PNG"), "png")
    assert distance(record.perceptual_hash[:32], copy.perceptual_hash[:32]) <= 8
    transcoded, _ = by_pillow(Look(data))
    stored = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(transcoded), turned(stored, turn))


def tiff(mode, **tags):
    """Return a TIFF file of noise in a mode of Pillow, in which a model sees three bands."""
    pixels = Image.fromarray(noise()).convert(mode)
    return encoded(pixels, "TIFF", **tags)


def many_bands(bands, bits):
    """Return a TIFF file of 32 x 32 pixels with bands of some bits, as satellites write it."""
    values = bytes(range(256)) * (32 * 32 * bands * bits // 8 // 256)
    numbers = struct.pack(f"<{bands}H", *[bits] * bands)
    first = 8 + len(values)
    entries = [
        (256, 3, 1, 32),
        (257, 3, 1, 32),
        (258, 3, bands, first),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if bands in (3, 4, 5) else 1),
        (273, 4, 1, 8),
        (277, 3, 1, bands),
        (278, 3, 1, 32),
        (279, 4, 1, len(values)),
        *([(338, 3, bands - 3, 0)] if bands in (4, 5) else []),  # bands of no known meaning
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory = struct.pack("<H", len(entries)) + table + bytes(4)
    return b"II*\0" + struct.pack("<I", first + len(numbers)) + values + numbers + directory


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tiff("RGBA"), "TIFF with 4 bands; 3 are used"),
        (tiff("LA"), "TIFF with 2 bands; 1 is used"),
        (tiff("RGB"), ""),
        (tiff("CMYK"), ""),
        (many_bands(4, 8), "TIFF with 4 bands; 3 are used"),  # of which the last is no alpha
    ],
)
def test_bands_that_are_not_used_are_said(look, data, said):
    found = examine(look(data), JudgeSettings())
    assert found[0].reason == "transcoded"
    details = [one.detail for one in found if one.reason == "unused_bands"]
    assert details == ([said] if said else [])


@pytest.mark.parametrize("bands", [5, 8])  # Pillow would read the first three of five
def test_a_file_with_more_than_four_bands_is_out_of_scope_in_a_sentence(look, bands):
    [found] = examine(look(many_bands(bands, 8)), JudgeSettings())
    assert found.detail == f"TIFF with {bands} bands; files with at most 4 are read"
    assert "save the three bands" in found.remedy


def test_an_avif_that_lies_on_its_side_is_turned():
    flat = Image.fromarray(noise())
    data = encoded(flat, "AVIF", exif=exif(6))
    content = inspected(Look(data), 10**6)
    assert (content.width, content.height) == flat.size[::-1] and content.converted
