"""What is wrong with a folder of images: one builder a fault, all in the table at the end.

A fault is a file more, beside the images of its class; the images themselves stay as drawn.
Reasons are those of the data judge where it has one for it, so that the two can be compared.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from imgpipe.pipeline.demo import encode

TEXT = b"These are the minutes of the meeting, saved under the wrong name.\n" * 12


@dataclass(frozen=True)
class Fault:
    """One planted file; `build` gets the tools of the set being drawn."""

    reason: str
    folder: str  # the class folder it is put in
    name: str
    build: Callable[[Tools], bytes]
    twin: tuple[str, int] | None = None  # (class, number) of the image it is a copy of
    wrong: str = "copy"  # which file is at fault: the copy, its twin, or both


@dataclass(frozen=True)
class Tools:
    """What a builder may ask for."""

    image: Callable[[str, int], Image.Image]  # (label, number): a hand that no other file shows
    original: Callable[[str, int], bytes]  # (class, number): an image of the set as written


def _cut(label: str, number: int, suffix: str, share: float) -> Callable[[Tools], bytes]:
    def build(tools: Tools) -> bytes:
        data = encode.encoded(tools.image(label, number), suffix)
        return data[: int(len(data) * share)]

    return build


def _plain(label: str, number: int, suffix: str) -> Callable[[Tools], bytes]:
    return lambda tools: encode.encoded(tools.image(label, number), suffix)


def _copy(label: str, number: int) -> Callable[[Tools], bytes]:
    return lambda tools: tools.original(label, number)


def _again(label: str, number: int, quality: int, scale: float) -> Callable[[Tools], bytes]:
    """The same image saved again: other bytes, nearly the same pixels."""

    def build(tools: Tools) -> bytes:
        image = Image.open(io.BytesIO(tools.original(label, number)))
        size = (round(image.width * scale), round(image.height * scale))
        return encode.encoded(image.resize(size, Image.Resampling.LANCZOS), ".jpg", quality)

    return build


def _turned(label: str, number: int) -> Callable[[Tools], bytes]:
    return lambda tools: encode.turned(tools.image(label, number))


def _animated(label: str, number: int) -> Callable[[Tools], bytes]:
    return lambda tools: encode.animation([tools.image(label, number + i) for i in range(3)])


def _one_pixel(tools: Tools) -> bytes:
    return encode.encoded(Image.new("RGB", (1, 1), (200, 150, 120)), ".png")


# reason, class folder, name, builder, and for copies the image copied. The numbers given to
# `image` only have to differ.
FAULTS: tuple[Fault, ...] = (
    Fault("zero_byte", "rock", "IMG_9001.jpg", lambda tools: b""),
    Fault("truncated", "paper", "IMG_9002.jpg", _cut("paper", 1, ".jpg", 0.55)),
    Fault("truncated", "scissors", "IMG_9003.JPG", _cut("scissors", 2, ".jpg", 0.85)),
    Fault("truncated", "rock", "IMG_9004.png", _cut("rock", 3, ".png", 0.40)),
    Fault("not_an_image", "rock", "IMG_9005.jpg", lambda tools: TEXT),
    Fault("too_small", "scissors", "IMG_9006.png", _one_pixel),
    Fault("animated", "scissors", "IMG_9007.gif", _animated("scissors", 4)),
    Fault("duplicate", "rock", "IMG_0001_copy.jpg", _copy("rock", 0), ("rock", 0)),
    Fault("duplicate", "scissors", "IMG_0001_copy.jpg", _copy("scissors", 0), ("scissors", 0)),
    Fault("label_conflict", "paper", "IMG_9008.jpg", _copy("scissors", 1), ("scissors", 1), "both"),
    Fault("misnamed", "paper", "IMG_9009.jpg", _plain("paper", 7, ".png")),
    Fault("transcoded", "paper", "IMG_9010.tif", _plain("paper", 8, ".tif")),
    Fault("rotated", "rock", "IMG_9011.jpg", _turned("rock", 9)),
    Fault("mislabelled", "rock", "IMG_9012.jpg", _plain("paper", 10, ".jpg")),
    Fault("mislabelled", "scissors", "IMG_9013.jpg", _plain("rock", 11, ".jpg")),
    Fault("near_duplicate", "rock", "IMG_9014.jpg", _again("rock", 1, 60, 1.0), ("rock", 1)),
    Fault("near_duplicate", "paper", "IMG_9015.jpg", _again("paper", 1, 85, 0.9), ("paper", 1)),
)

# Only where the folders name the splits: a training image that is in validation too. The one in
# train is at fault: what is trained on must not be measured on.
LEAKS: tuple[Fault, ...] = (
    Fault(
        "duplicate_across_splits", "paper", "IMG_9016.jpg", _copy("paper", 0), ("paper", 0), "twin"
    ),
)
