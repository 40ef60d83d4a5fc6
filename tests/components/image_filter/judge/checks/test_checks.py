"""Each check by itself, and the order in which the checks are applied."""

import dataclasses
import hashlib
import io

import pytest
from PIL import Image

from imgpipe.components.common.image_file.content import decode, for_the_model, inspected
from imgpipe.components.common.image_row import ImageRow, served_bytes
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import read_source
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.serving.look import Look
from tests.images import encoded, noise
from tests.serving.test_image_header import compressed_texts, many_scans


def record(data, path="a/x.jpg", label="a", label_index=0, read_error=""):
    return ImageRow(
        path=path,
        label=label,
        label_index=label_index,
        split="train",
        image_hash=hashlib.sha256(data).hexdigest(),
        byte_size=len(data),
        read_error=read_error,
        image_bytes=data,
        **dataclasses.asdict(inspected(Look(data), JudgeSettings().pixel_limit)),
    )


def animation(kind, count=3):
    frames = [Image.new("RGB", (40, 32), (80 * n, 0, 0)) for n in range(count)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def rejection(data, settings=None, **about):
    return rejected(record(data, **about), settings or JudgeSettings())


def rejected(row, settings):
    """Return the finding that rejects an image; None if it is kept."""
    findings = examine(row, settings)
    return next((each for each in findings if each.severity == "reject"), None)


def reason(data, settings=None, **about):
    finding = rejection(data, settings, **about)
    return finding.reason if finding else ""


@pytest.mark.parametrize(
    ("data", "words"),
    [(many_scans(), "206 scans, more than 100"), (compressed_texts(), "more than 4 MiB")],
    ids=["JPEG", "PNG"],
)
def test_a_file_that_exhausts_a_decoder_is_rejected_without_decoding_it(tmp_path, data, words):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.jpg").write_bytes(data)
    images = read_source(str(tmp_path))
    found, _ = inspect(images.reader, images.items, JudgeSettings().pixel_limit)
    assert words in found.decode_error and not found.figures
    finding = rejected(found, JudgeSettings())
    assert finding.reason == "hidden_cost" and words in finding.detail
    assert for_the_model(data, JudgeSettings().pixel_limit) == data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_good_images_pass_without_repairs_or_warnings(encode, kind):
    assert examine(record(encode(kind), path=f"a/x.{kind.lower()}"), JudgeSettings()) == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_rejected_as_truncated(encode, kind, share):
    data = encode(kind, size=(80, 80))
    assert reason(data[: int(len(data) * share)]) == "truncated"


def test_a_jpeg_whose_second_half_is_zeros_is_cut_short(encode):
    """An interrupted download may leave the space of the whole file, and more."""
    data = encode("JPEG", size=(96, 96))
    assert reason(data[: len(data) // 2] + bytes(100_000)) == "truncated"


def test_files_that_are_no_images_are_rejected_with_the_cause(encode):
    assert reason(b"hello, I am text") == "not_an_image"
    assert reason(b"") == "zero_byte"
    assert reason(b"", read_error="Permission denied") == "unreadable"
    assert rejection(b"hello").detail == 'text that begins with "hello"'


@pytest.mark.parametrize(
    ("path", "data", "reason", "detail", "remedy"),
    [
        (
            "x.jpg",
            b"version https://git-lfs.github.com/spec/v1\n",
            "not_an_image",
            "Git LFS",
            "git lfs",
        ),
        (
            "x.tif",
            b"II*\0\x08\0\0\0" + bytes(200),
            "undecodable",
            "the TIFF file is damaged, or of a kind that is not accepted",
            "save the image again as JPEG or PNG, or download the original again",
        ),
        (
            "x.jxl",
            b"\xff\x0a" + bytes(90),
            "undecodable",
            "JPEG XL, a format that is not accepted",
            "save the image again as JPEG or PNG",
        ),
        ("x.jpg", b"<!DOCTYPE html><html><body>404", "not_an_image", "HTML", "replace it by"),
        ("x.jpg", b"\xef\xbb\xbf<b>404</b>", "not_an_image", 'begins with "<b>404', "replace it"),
        ("x.jpg", bytes(128) + b"DICM" + bytes(9), "not_an_image", "DICOM image", "export it as"),
        ("x.jpg", b"%PDF-1.4 a", "not_an_image", "Adobe", "export it as PNG"),
        *(
            ("x.jpg", encoded(noise(3), kind), "undecodable", f"{kind}, a format that", "export it")
            for kind in ("ICO", "DDS")
        ),
        ("x.jpg", b"PK\3\4" + bytes(90), "not_an_image", "ZIP", "replace it by"),
        ("x.jpg", bytes(900), "not_an_image", "nothing but zeros", "replace it"),
        ("x.jpg", b"Rar!\x1a\x07\x01\0" + bytes(90), "not_an_image", "RAR", "replace it by"),
        ("x.raf", b"FUJIFILMCCD-RAW 0201", "undecodable", "camera raw (Fuji RAF", "darktable-cli"),
        ("x.cr3", b"\0\0\0\x18ftypcrx ", "undecodable", "camera raw (a file", "darktable-cli"),
        ("x.weights", b"\0" * 90, "not_an_image", "nothing but zeros", "replace it by"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_what_to_do(path, data, reason, detail, remedy):
    found = rejection(data, path=f"a/{path}")
    assert found.reason == reason and detail in found.detail and remedy in found.remedy


@pytest.mark.parametrize("tags", [{50706: b"\x01\x04\0\0"}, {254: 1, 271: "NIKON"}, {254: 1}])
def test_the_preview_in_a_camera_raw_file_is_no_photograph(tags):
    out = io.BytesIO()
    Image.new("RGB", (160, 120)).save(out, "TIFF", tiffinfo=tags)
    found = rejection(out.getvalue(), path="a/x.NEF")
    assert found.reason == "undecodable" and "its preview of 160 x 120 pixels" in found.detail


@pytest.mark.parametrize("kind", ["TIFF", "JPEG2000", "PPM", "AVIF"])
def test_formats_that_only_pillow_reads_are_transcoded_to_png(encode, kind):
    inspected = record(encode(kind))
    (repair,) = examine(inspected, JudgeSettings())
    assert (repair.severity, repair.reason) == ("repair", "transcoded") and kind in repair.detail
    assert decode(Look(served_bytes(inspected, inspected.image_bytes))).shape == (32, 40, 3)


def test_transparent_pixels_of_a_gif_are_reported(records):
    image = Image.new("RGBA", (40, 32), (200, 30, 30, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 32))
    opaque = encoded(image.convert("RGB"), "GIF")
    inspected = records({"a/x.gif": encoded(image, "GIF"), "a/y.gif": opaque})
    found = examine(inspected["a/x.gif"], JudgeSettings())
    details = {warning.reason: warning.detail for warning in found}
    assert details["alpha"] == "50.0% of the pixels are not opaque"
    assert inspected["a/y.gif"].figures["transparency"] == 0


@pytest.mark.parametrize(
    ("mode", "value", "advice"),
    [("F", 0.5, "floating-point"), ("I", 1_000_000, "scale them to 8 or 16 bits")],
)
def test_images_whose_white_is_unknown_are_rejected(mode, value, advice):
    """Pillow would clip their values, and the model would see black or white images."""
    found = rejection(encoded(Image.new(mode, (40, 32), value), "TIFF"))
    assert found.reason == "undecodable" and advice in found.detail


def test_images_outside_the_size_limits_are_rejected(encode):
    assert reason(encode(size=(28, 28))) == ""  # there are real data sets of 28 × 28 pixels
    assert reason(encode(size=(15, 200))) == "too_small"
    assert reason(encode(size=(15, 200)), JudgeSettings(min_side=8)) == ""
    assert reason(encode(), JudgeSettings(pixel_limit=1000)) == "pixel_limit"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_rejected_unless_ignored(kind):
    assert reason(animation(kind)) == "animated"
    assert reason(animation(kind), JudgeSettings(severity={"animated": "ignore"})) == ""
    assert reason(animation(kind, count=1)) == ""


def test_labels(encode):
    assert reason(encode(), label="", label_index=-1) == "no_label"
    found = rejection(encode(), label="q", label_index=-1)
    assert "'q' is not in the vocabulary" in found.detail
    assert reason(b"text", label="", label_index=-1) == "not_an_image"  # this reason says more


def test_damaged_images_pass_only_if_the_op_decodes_them_or_after_repair(
    shared_data, broken_images
):
    """What the serving op decodes is never rejected as damaged, and all else is, or is repaired.

    One of them is Pillow's example of a file that is made to take memory.
    """
    kept = JudgeSettings(min_side=1, severity={"damaged": "ignore"})
    repaired = readable = 0
    for path, entry in broken_images.items():
        inspected = record((shared_data / path).read_bytes())
        found = examine(inspected, kept)
        serves = entry["tf"].startswith("OK")
        if inspected.hidden_cost:  # it is not decoded, although the op would decode it
            assert inspected.decode_error == inspected.hidden_cost
        else:
            assert (inspected.decode_error == "") == serves, path
            if serves:
                height, width = entry["tf"][4:-1].split(",")[:2]
                assert (inspected.width, inspected.height) == (int(width), int(height)), path
        name = next((each.reason for each in found if each.severity == "reject"), "")
        repairs = [each for each in found if each.severity == "repair"]
        if serves:
            assert name in ("", "animated", "hidden_cost") and not repairs, (path, name)
            assert name != "hidden_cost" or "8eb03a3c11" in path
        else:
            assert name or repairs, path
            readable += entry["pil"] == "OK" and name != "animated"
        if repairs:
            repaired += 1
            assert entry["pil"] == "OK", path
            assert decode(Look(served_bytes(inspected, inspected.image_bytes))) is not None, path
    assert repaired == readable > 40
