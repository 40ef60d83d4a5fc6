"""Whatever of ours reads foreign bytes takes a time that is linear in their number.

Each reader gets the adversarial bytes of its formats once, and then twice as many. A reader that
begins anew at each byte takes four times as long. Ratios of processor time are compared, since the
machine may be busy.
"""

import contextlib
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from imgpipe.components.common.image_file import header
from imgpipe.components.common.image_file.damage import damage
from imgpipe.serving.look import Look
from imgpipe.serving.server import limits
from imgpipe.serving.server.rest import json_tensors
from imgpipe.serving.server.status import StatusError
from tests.fuzz.targets import TARGETS

JPEG = b"\xff\xd8\xff\xe0\0\2"
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 9, 9, 8, 0, 0, 0, 0, 0)
GIF = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
WEBP = b"RIFF\xff\xff\xff\0WEBP"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SCANS = JPEG + b"\xff\xda\0\2" * 101
IMAGES = {
    "JPEG of 255": (JPEG, b"\xff"),
    "JPEG of zeros": (JPEG, b"\0"),
    "JPEG of stuffed bytes": (JPEG, b"\xff\0"),
    "JPEG of fill bytes and stuffed ones": (JPEG, b"\xff\xff\xff\xff\0"),
    "JPEG of empty segments": (JPEG, b"\xff\xe1\0\2"),
    "JPEG of segments of length 0": (JPEG, b"\xff\xe1\0\0"),
    "JPEG of comments without end": (JPEG, b"\xff\xfe\xff\xff"),
    "JPEG of standalone markers": (JPEG, b"\xff\x01"),
    "JPEG of ends": (JPEG, b"\xff\xd9"),
    "JPEG of Exif blocks": (JPEG, b"\xff\xe1\0\x0aExif\0\0aa"),
    "JPEG of scans": (SCANS, b"\xff\xda\0\2"),
    "JPEG of scans and 255": (SCANS, b"\xff"),
    "JPEG of scans and restarts": (SCANS, b"\xff\xd0"),
    "PNG of empty chunks": (PNG, b"\0\0\0\0teXt\0\0\0\0"),
    "PNG of empty texts": (PNG, b"\0\0\0\0zTXt\0\0\0\0"),
    "PNG of a text without end": (PNG + b"\x7f\xff\xff\xffiTXta\0\1\0", b"a"),
    "PNG of zeros": (PNG, b"\0"),
    "PNG of 255": (PNG, b"\xff"),
    "GIF of a comment without end": (GIF + b"\x21\xfe", b"\1a"),
    "GIF of empty extensions": (GIF, b"\x21\xfe\0"),
    "GIF of empty frames": (GIF, b"\x2c" + bytes(9) + b"\0\0"),
    "WebP of empty chunks": (WEBP, b"VP8 \0\0\0\0"),
    "WebP of zeros": (WEBP + b"VP8 \xff\xff\xff\0", b"\0"),
    "HEIC of empty boxes": (HEIC, b"\0\0\0\x08free"),
    "BMP of zeros": (b"BM", b"\0"),
    "TIFF of zeros": (b"II*\0\x08\0\0\0", b"\0"),
    "nothing": (b"", b"\xff"),
}


def _example(row: bytes) -> None:
    limits.checked_pixels({"examples": np.array([row], object)}, 1_000_000)


def _body(data: bytes) -> None:
    signature = {"x": tf.compat.v1.MetaGraphDef().signature_def["a"].inputs["x"]}
    signature["x"].dtype = 7
    json_tensors.read(json_tensors.parse(data, "http://localhost"), signature)


def _message(data: bytes) -> None:
    limits.check_fields(data, PredictRequest.DESCRIPTOR)


IMAGE_READERS = {
    "pixels": lambda data: Look(data).pixels,
    "hidden cost": lambda data: Look(data).hidden_cost,
    "probe": lambda data: header.probe(Look(data), 1_000_000),
    "reason of a refusal": lambda data: Look(data).refusal(),
    "damage": lambda data: damage(Look(data), Look(data).format, is_decoded=False),
}
OF_IMAGES = {
    f"{reader}: {name}": (read, head, unit)
    for reader, read in IMAGE_READERS.items()
    for name, (head, unit) in IMAGES.items()
}
READERS = {
    **OF_IMAGES,
    "message: empty fields": (_message, b"", b"\x12\0"),
    "message: long numbers": (_message, b"", b"\x08" + b"\xff" * 9 + b"\1"),
    "message: a number without end": (_message, b"\x08", b"\xff"),
    "message: groups": (_message, b"", b"\x0b\x0c"),
    "example: empty features": (_example, b"", b"\x0a\x02\x0a\0"),
    "example: a number without end": (_example, b"\x0a", b"\xff"),
    "body: brackets": (_body, b'{"instances":', b"["),
    "body: texts": (_body, b'{"instances":["', b"a"),
    "body: spaces": (_body, b'{"instances":', b" "),
    "body: base64 with spaces": (_body, b'{"instances":[{"b64":"', b"A "),
}
LINES = {
    "list.csv": (b"path,label\n", b"a/1.jpg,a\n"),
    "pixels.csv": (b"label,p0,p1,p2,p3\n", b"1,0,0,0,0\n"),
    "x.jsonl": (b"", b'{"path": "a/1.jpg", "label": "a"}\n'),
    "overrides.toml": (b"", b"#" * 40 + b"\n"),
    "config.toml": (b"", b"#" * 40 + b"\n"),
    "manifest.json": (b'{"files": ', b"["),
    "request.pb": (b"", b"\x12\0"),
    "reply.pb": (b"", b"\x12\0"),
    "x.zip": (b"", b"PK\1\2" + bytes(42)),
    "x.tar": (b"", bytes(512)),
    "x.tar.gz": (b"\x1f\x8b\x08\x08" + bytes(6), b"a"),
    "x.tfrecord": (b"", bytes(16)),
}
"""Beginnings and repeated parts of the files of `tests.fuzz`."""


CLEARLY_LINEAR, MOST = 2.6, 3.2
"""How much longer twice as many bytes may take: not to be measured again, and at all."""


def seconds(read: Callable[[bytes], object], data: bytes) -> float:
    """Return the processor time of a reader, whatever it says of the bytes."""
    began = time.process_time()
    with contextlib.suppress(StatusError):
        read(data)
    return time.process_time() - began


def growth(
    read: Callable[[bytes], object], head: bytes, unit: bytes, size: int = 16_000
) -> tuple[float, int]:
    """Return how much longer twice as many bytes take, and the number of bytes.

    The number is raised until the time can be measured, or is larger than that of most files.
    """
    while True:
        once = head + unit * (size // len(unit))
        took = min(seconds(read, once) for _ in range(2))
        if took > 0.02 or size > 2_000_000:
            break
        size *= 2
    larger = head + unit * (2 * size // len(unit))
    twice = seconds(read, larger)
    for _ in range(4):  # in turns, since other programs slow the machine down at times
        if twice < CLEARLY_LINEAR * took:
            break
        twice = min(twice, seconds(read, larger))
        took = min(took, seconds(read, once))
    return twice / max(took, 0.005), size


#: These two follow the parts of every format, and the others begin with them.
_FAST = ("pixels", "hidden cost")


def _case(name: str):
    """Return the parameter of a reader, which is slow unless it is one of the fast ones."""
    fast = name not in OF_IMAGES or name.startswith(_FAST)
    return pytest.param(name, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("name", [_case(name) for name in READERS])
def test_twice_as_many_bytes_take_no_more_than_twice_as_long(name):
    ratio, size = growth(*READERS[name])
    if ratio >= MOST:  # of more bytes it stays as large, unless what grew has a limit
        ratio, size = growth(*READERS[name], size=8 * size)
    assert ratio < MOST, f"{ratio:.1f} times at {size:,} bytes"


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_files_of_twice_the_size_take_no_more_than_twice_as_long(name, tmp_path):
    target = TARGETS[name]
    ratio, size = growth(lambda data: target.answer(data, tmp_path), *LINES[name])
    assert ratio < MOST, f"{ratio:.1f} times at {size:,} bytes"
