"""Words for files that no model decodes, which the server, the client and predict share."""

import pytest
from PIL import Image

from imgpipe.serving.look import Look, in_words
from tests.images import encoded, noise

_UNKNOWN = "Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required."


_SMALL = Image.fromarray(noise(1, (20, 30)))
_TRANSPARENT = _SMALL.convert("RGBA")
_TRANSPARENT.putalpha(100)
_FILES = {
    "empty": (b"", "the file is empty."),
    "text": (b"milk,\neggs", 'the file is no image, but text. It begins with "milk, eggs".'),
    "path": ("/home/ä.jpg".encode(), 'but text. It begins with "/home/ä.jpg".'),
    "cut text": ("ä".encode() * 150, "the file is no image, but text."),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(90), "HEIC, a format that is not accepted."),
    "JPEG XL": (b"\xff\x0a" + bytes(9), "JPEG XL, a format that is not accepted. Save the image"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL, a format that is not accepted."),
    "TIFF": (encoded(noise(3), "TIFF"), "TIFF, a format that is not accepted. Save the image as"),
    "AVIF": (encoded(noise(3), "AVIF"), "AVIF, a format that is not accepted. Save the image as"),
    "ICO": (encoded(noise(3), "ICO"), "ICO, a format that is not accepted."),
    "unknown": (bytes(range(90)), "no image of a known format, but a file that begins with"),
    "PDF": (b"%PDF-1.4\n", "no image, but of another format: Adobe Portable Document Format"),
    "half JPEG": (
        encoded(noise(4), "JPEG")[:900],
        "the JPEG file is cut short: its end is missing.",
    ),
    "half PNG": (encoded(noise(4), "PNG")[:900], "the PNG file is cut short"),
    "half WebP": (encoded(_SMALL, "WEBP")[:200], "the WebP file is cut short"),
    "wrong PNG": (encoded(noise(4)).replace(b"IDAT", b"IDAX", 1), "the PNG file is damaged"),
    "animation": (
        encoded(_SMALL, "WEBP", save_all=True, append_images=[_TRANSPARENT]),
        "an animated WebP file, a kind that is not accepted. Save the image as JPEG or PNG.",
    ),
    "alpha": (encoded(_TRANSPARENT, "WEBP"), "a WebP file with transparency, a kind that is not"),
    "lossless alpha": (
        encoded(_TRANSPARENT, "WEBP", lossless=True),
        "a WebP file with transparency, a kind that is",
    ),
}


@pytest.mark.parametrize("name", _FILES)
def test_a_file_is_refused_for_its_own_reason(name):
    data, words = _FILES[name]
    assert words in in_words(_UNKNOWN, [data])
    for word in ("b64", "data URL", "image_bytes", "tensor", "Uncompress"):
        assert word not in Look(data).refusal()


@pytest.mark.parametrize("said", ["Invalid PNG. Failed to init", "Width must be positive"])
def test_a_header_that_the_decoder_refuses_is_a_damaged_file(said):
    assert in_words(said, [b"BM" + bytes(90)]).startswith("the BMP file is")


def test_formats_that_are_converted_are_damaged_if_they_are_refused():
    tiff = encoded(noise(3), "TIFF")[:50]
    assert Look(tiff).refusal().startswith("TIFF, a format that is not accepted")
    assert Look(tiff).refusal(("TIFF", "WEBP")).startswith("the TIFF file is damaged")


def test_of_several_images_the_row_is_named_where_the_bytes_show_it():
    good = encoded(noise(6), "JPEG")
    assert in_words(_UNKNOWN, [good, b"milk"]).startswith("Row 1: the file is no image, but text.")
    said = in_words("jpeg::Uncompress failed. Invalid JPEG data or crop window.", [good, good])
    assert said.startswith("One of the 2 images is damaged or cut short")


def test_what_is_said_about_something_else_stays():
    for message in (
        "pixels: expected one image or more in RGB",
        "An image in image_bytes has 81.0 million pixels; at most 50 million are allowed.",
        "An image in image_bytes has 200 scans, more than 100. Save it again as JPEG or PNG.",
    ):
        assert in_words(message, [b"milk"]) == message


def test_a_message_that_is_about_no_image_reads_none():
    """To read the ten million fields of a refused Example again took minutes."""

    def unread():
        raise AssertionError("an image was read")
        yield b""

    said = "The request has more than 100,000 values."
    assert in_words(said, unread()) == said
