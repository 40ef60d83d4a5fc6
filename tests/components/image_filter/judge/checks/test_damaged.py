"""Files that decode although they are damaged, and healthy ones with unusual bytes."""

import re
import struct

import pytest
from PIL import Image
from typer.testing import CliRunner

from imgpipe.components.common.image_file.content import decode
from imgpipe.components.common.image_file.damage import damage
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.pipeline.application import app
from imgpipe.serving.look import Look
from tests.images import encoded, noise, soft

_PHOTO, _OTHER = (
    Image.blend(soft(seed, (320, 240)), Image.fromarray(noise(seed, (320, 240))), 0.2)
    for seed in (3, 4)
)
_LIBJPEG = "libjpeg: Corrupt JPEG data"


def _text(data):
    """Convert newlines, as a transfer as text does."""
    return data.replace(b"\n", b"\r\n")


def _zeros(data):
    middle = len(data) // 2
    return data[:middle] + bytes(2048) + data[middle + 2048 :]


def _joined(data):
    return data[: len(data) // 2] + encoded(_OTHER, "JPEG")[len(data) // 3 :]


def _last_pixels(data):
    return data[:-6] + b"\xff" + data[-5:]


def _checksum(data):
    return data[:-13] + bytes([data[-13] ^ 1]) + data[-12:]


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        *(("JPEG", damage, _LIBJPEG) for damage in (_text, _zeros, _joined)),
        ("PNG", _checksum, "Pillow: broken PNG"),
        ("GIF", _last_pixels, "Pillow: broken data stream"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 9}])
def test_a_damaged_file_is_rejected_with_its_sign_of_damage(records, kind, damage, said, options):
    record = records({"a/x": damage(encoded(_PHOTO, kind, quality=90, **options))})["a/x"]
    [found] = examine(record, JudgeSettings())
    assert (found.severity, found.reason) == ("reject", "damaged") and said in found.detail
    warned = examine(record, JudgeSettings(severity={"damaged": "warn"}))
    [damaged] = [each for each in warned if each.reason == "damaged"]
    assert (damaged.severity, damaged.detail) == ("warn", found.detail)


def _segment(marker, body):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    "insert",
    [
        b"\xff\xff",  # fill bytes
        _segment(0xE2, b"ICC_PROFILE\0\x09\x02none"),
        _segment(0xE1, b"Exif\0\0") + b"longer than it says",
        _segment(0xFE, b"a line\r\n" * 40),
    ],
)
def test_a_jpeg_whose_pixels_are_right_is_not_damaged(records, insert):
    data = encoded(_PHOTO, "JPEG", quality=90)
    padded = data[:-2] + bytes(300) + data[-2:]  # as some cameras write it
    for changed in (data[:2] + insert + data[2:] + data, data[:2] + insert + padded[2:]):
        assert (decode(Look(changed)) == decode(Look(data))).all()
        assert records({"x.jpg": changed})["x.jpg"].damage == ""


def test_the_pixels_of_a_jpeg_without_its_end_are_looked_at(records):
    data = encoded(_PHOTO, "JPEG", quality=90)
    found = records({"whole.jpg": data[:-2], "joined.jpg": _joined(data)[:-2]})
    assert found["whole.jpg"].damage == ""
    assert found["joined.jpg"].damage.startswith(_LIBJPEG)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_healthy_file_is_not_damaged(records, kind, mode):
    if mode == "CMYK" and kind not in ("JPEG", "TIFF"):
        pytest.skip("the format has no such colours")
    plain = Image.new("RGB", (900, 700), (16, 10, 13))
    files = {str(at): encoded(one.convert(mode), kind) for at, one in enumerate((_PHOTO, plain))}
    assert [record.damage for record in records(files).values()] == ["", ""]


def test_check_names_damaged_files_and_shows_their_pictures(tmp_path):
    for label in ("oak", "elm"):
        (tmp_path / "trees" / label).mkdir(parents=True)
        for number in range(12):
            data = encoded(soft(number * 2 + (label == "elm"), (160, 120)), "JPEG", quality=95)
            (tmp_path / "trees" / label / f"{number}.jpg").write_bytes(
                data if number else _text(data)
            )
    png = _text(encoded(_PHOTO, "PNG"))
    (tmp_path / "trees" / "oak" / "sent.png").write_bytes(png)
    page = tmp_path / "page.html"
    said = CliRunner().invoke(app, ["check", str(tmp_path / "trees"), "--html", str(page)]).output
    assert "rejected: 2 damaged" in said
    assert re.search(rf"  elm/0.jpg  {_LIBJPEG}: ", said)
    shown = page.read_text("utf-8")
    assert re.search('<img src="data:image/webp[^>]*alt="elm/0.jpg: damaged"', shown)
    assert "download or copy the original again, as binary data" in shown


def test_what_is_said_of_a_file_is_the_same_each_time():
    """Pillow's own words for a PNG with a damaged header name an address in memory."""
    broken = encoded(_PHOTO, "PNG").replace(b"IHDR", b"IHDr")
    assert damage(Look(broken), "PNG", is_decoded=False) == "Pillow: unknown image format"
