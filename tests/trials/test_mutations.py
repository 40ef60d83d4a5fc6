"""Ten thousand damaged images: the checks never crash and agree with the server's decoder.

TensorFlow's own decode operation is run on every file for the comparison. The base files are of the
kinds that cameras, editors and browsers write. The damage is that of disks, downloads and editors:
flipped bits, truncation, and blocks that are lost, zeroed, repeated or from another file.
"""

from __future__ import annotations

import collections

import numpy as np
import pytest

from imgpipe.components import source_check
from imgpipe.components.image_file.header import probe
from imgpipe.components.image_filter.check import Settings
from imgpipe.pipeline.demo import draw_hand
from tests.images import encoded

_PIXELS = 2_000_000  # the pixel limit here; larger images would only take memory
_BROKEN = {"truncated", "undecodable", "not_an_image", "zero_byte"}
_TOO_LARGE = "pixel_limit"


def bases():
    """Return lists of undamaged encoded images by suffix."""
    made = {".jpg": [], ".png": []}
    for number, label in enumerate(("rock", "paper", "scissors", "rock")):
        hand = draw_hand(label, seed=number, size=72)
        for mode, options in (
            ("RGB", {"quality": 90}),
            ("RGB", {"quality": 60, "progressive": True}),
            ("RGB", {"quality": 95, "subsampling": 0, "restart_marker_blocks": 4}),
            ("L", {"quality": 80, "optimize": True}),
            ("CMYK", {"quality": 85}),
        ):
            made[".jpg"].append(encoded(hand.convert(mode), "JPEG", **options))
        for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
            drawn = hand.convert("L") if mode == "I;16" else hand
            made[".png"].append(encoded(drawn.convert(mode), "PNG"))
    return made


def _bits(rng, data, other):
    """Flip one to eight bits."""
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return data


def _head(rng, data, other):
    """Replace one to three of the first 180 bytes, where sizes, tables and types are."""
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(min(len(data), 180))] = rng.integers(256)
    return data


def _cut(rng, data, other):
    """Truncate the file."""
    return data[: rng.integers(len(data))]


def _zeroed(rng, data, other):
    """Set a block to zero."""
    start, length = rng.integers(len(data)), rng.integers(1, 600)
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def _lost(rng, data, other):
    """Remove a block."""
    start, length = rng.integers(len(data)), rng.integers(1, 300)
    return data[:start] + data[start + length :]


def _repeated(rng, data, other):
    """Repeat a block."""
    start, length = rng.integers(len(data)), rng.integers(1, 300)
    return data[: start + length] + data[start:]


def _spliced(rng, data, other):
    """Join the beginning of one file and the end of another, of either kind."""
    return data[: rng.integers(1, len(data))] + other[rng.integers(len(other)) :]


def _prefixed(rng, data, other):
    """Put random bytes before the file."""
    return bytearray(rng.bytes(rng.integers(1, 40))) + data


def _appended(rng, data, other):
    """Append random bytes to the file."""
    return data + bytearray(rng.bytes(rng.integers(1, 200)))


_DAMAGES = (
    *(_bits, _head, _cut, _zeroed, _lost, _repeated, _spliced, _prefixed, _appended),
    *(_bits, _head, _cut),  # the most common kinds twice
)


def damaged(count, seed=0):
    """Return `count` different damaged files by name."""
    rng = np.random.default_rng(seed)
    made = bases()
    everything = [data for files in made.values() for data in files]
    files, seen = {}, set(everything)
    while len(files) < count:
        suffix = (".jpg", ".png")[len(files) % 2]
        data = bytearray(made[suffix][rng.integers(len(made[suffix]))])
        for _ in range(rng.integers(1, 3)):
            damage = _DAMAGES[rng.integers(len(_DAMAGES))]
            data = damage(rng, data, everything[rng.integers(len(everything))]) or bytearray(b"\0")
        if bytes(data) not in seen:
            seen.add(bytes(data))
            files[f"{len(files):05d}{suffix}"] = bytes(data)
    return files


def op_decodes(data):
    """Return whether TensorFlow's decode operation decodes a file."""
    import tensorflow as tf

    try:
        tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.OpError:
        return False
    return True


@pytest.mark.parametrize("count", [240, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_checks_agree_with_the_decode_operation_on_every_file(tmp_path, count):
    files = damaged(count)
    for name, data in files.items():
        file = tmp_path / "photos" / "ab"[int(name[:5]) // 2 % 2] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    settings = Settings(min_side=1, pixel_limit=_PIXELS, threshold={"near_duplicate": 0})
    judged = source_check.judge(source_check.Plan(str(tmp_path / "photos"), settings))
    assert judged.summary["in"] == count
    assert judged.summary["kept"] + judged.summary["rejected"] == count
    rejected = {row.path[2:]: row.reason for row in judged.rejects}
    transcoded = {row.path[2:] for row in judged.repairs if row.reason == "transcoded"}
    wrong, outcomes = [], collections.Counter()
    for name, data in files.items():
        reason = rejected.get(name, "transcoded" if name in transcoded else "good")
        if reason == _TOO_LARGE:
            assert probe(data, _PIXELS).pixels > _PIXELS
            outcomes[reason] += 1
            continue
        decodes = op_decodes(data)
        outcomes["decodes" if decodes else reason] += 1
        if decodes == (reason in _BROKEN or reason == "transcoded"):
            wrong.append((name, reason))
    print(dict(outcomes))
    assert not wrong
    assert outcomes["decodes"] > count / 20 and outcomes["undecodable"] > count / 20
