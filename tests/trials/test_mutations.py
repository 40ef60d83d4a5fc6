"""Ten thousand damaged images: the checks never crash and agree with the server's decoder.

TensorFlow's own decode operation is run on every file for the comparison. The base files are of the
kinds that cameras, editors and browsers write.
"""

import collections
import random

import pytest

from imgpipe.components.common.image_file.header import probe
from imgpipe.components.image_filter.findings import with_severity
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.data_check import judge
from imgpipe.pipeline.definition.source import listed
from imgpipe.pipeline.demo import draw_hand
from imgpipe.serving.look import Look
from tests.fuzz.mutation import mutate
from tests.images import encoded

_PIXELS = 2_000_000  # the pixel limit here; larger images would only take memory
_BROKEN = {"truncated", "undecodable", "not_an_image", "zero_byte", "hidden_cost"}
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


def damaged(count):
    """Return `count` different damaged files by name."""
    draw = random.Random(0)
    made = bases()
    everything = [data for files in made.values() for data in files]
    files, seen = {}, set(everything)
    while len(files) < count:
        suffix = (".jpg", ".png")[len(files) % 2]
        data = mutate(draw.choice(made[suffix]), draw.choice(everything), draw) or b"\0"
        if data not in seen:
            seen.add(data)
            files[f"{len(files):05d}{suffix}"] = data
    return files


def op_decodes(data):
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
    ignored = {"damaged": "ignore"}  # the op decodes such files
    settings = {
        "min_side": 1,
        "pixel_limit": _PIXELS,
        "severity": ignored,
        "threshold": {"near_duplicate": 0},
    }
    data = {"source": str(tmp_path / "photos")}
    config = configs.build({"data": data, "judge": settings})
    judged = judge(config, listed(config, ""), "")
    assert judged.data["in"] == count
    assert judged.data["kept"] + judged.data["rejected"] == count
    findings = judged.judgement.findings
    rejected = {row["path"][2:]: row["reason"] for row in with_severity(findings, "reject")}
    transcoded = {row["path"][2:] for row in with_severity(findings, "repair")}
    wrong, outcomes = [], collections.Counter()
    for name, data in files.items():
        reason = rejected.get(name, "transcoded" if name in transcoded else "good")
        if reason == _TOO_LARGE:
            assert probe(Look(data), _PIXELS).pixels > _PIXELS
            outcomes[reason] += 1
            continue
        decodes = op_decodes(data)
        outcomes["decodes" if decodes else reason] += 1
        if decodes == (reason in _BROKEN or reason == "transcoded"):
            wrong.append((name, reason))
    print(dict(outcomes))
    assert not wrong
    assert outcomes["decodes"] > count / 20 and outcomes["undecodable"] > count / 20
