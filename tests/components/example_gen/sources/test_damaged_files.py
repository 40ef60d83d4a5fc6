"""Files with random damage are refused with a message or give items, and raise nothing else."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import zipfile

import pytest

from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.storage.records import make, serialise
from imgpipe.models.errors import ImgpipeError

FEW, MANY = 60, 1000


def _zip(method):
    """Return a ZIP archive of six images with this compression method."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for n in range(6):
            archive.writestr(f"{'ab'[n % 2]}/{n}.jpg", random.Random(n).randbytes(50) * 3)
    return out.getvalue()


def _tar(packed):
    """Return a tar archive of six images with long names, compressed by gzip if `packed`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for n in range(6):
            info = tarfile.TarInfo(f"{'ab'[n % 2]}/{n}é{'x' * 120}.jpg")
            info.size = 150
            archive.addfile(info, io.BytesIO(random.Random(n).randbytes(150)))
    return gzip.compress(out.getvalue()) if packed else out.getvalue()


def _tfrecord(tmp_path):
    """Return a TFRecord file of six records."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "seed")) as writer:
        for n in range(6):
            writer.write(serialise(make({"image": bytes(99), "label": "ab"[n % 2]})))
    return (tmp_path / "seed").read_bytes()


SEEDS = {
    "x.zip": lambda _: _zip(zipfile.ZIP_DEFLATED),
    "y.zip": lambda _: _zip(zipfile.ZIP_STORED),
    "x.tar": lambda _: _tar(False),
    "x.tar.gz": lambda _: _tar(True),
    "x.jsonl": lambda _: "\n".join(
        json.dumps({"path": f"{n}.jpg", "label": "ab"[n % 2]}) for n in range(6)
    ).encode(),
    "list.csv": lambda _: (
        b"path,label,group\n" + b"".join(b"%d.jpg,l%d,g\n" % (n, n) for n in range(6))
    ),
    "x.tfrecord": _tfrecord,
    "x.csv": lambda _: b"".join(
        b"%d," % (n % 2) + b",".join([b"7"] * 16) + b"\n" for n in range(6)
    ),
}


def damage(data, draw):
    """Return the data with pieces changed, cut out or doubled, or with its end cut off."""
    data = bytearray(data)
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(data))
        end = min(len(data), place + draw.randrange(1, 40))
        kind = draw.randrange(5)
        if kind == 0:
            del data[place:end]
        elif kind == 1:
            data[place:place] = data[place:end]
        elif kind == 2 and draw.random() < 0.3:
            del data[place:]
        else:
            data[place:end] = draw.choice([b"\0", b"\xff", b"9", draw.randbytes(1)]) * (end - place)
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize(
    "rounds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("name", list(SEEDS))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_files_raise_no_other_error_than_those_of_the_project(tmp_path, name, rounds):
    draw, whole = random.Random(name), SEEDS[name](tmp_path)
    file = tmp_path / name
    for number in range(6):  # the files that the lists name
        (tmp_path / f"{number}.jpg").write_bytes(b"%d" % number)
    outcomes = {"refused": 0, "read": 0, "unreadable": 0}
    for _ in range(rounds):
        file.write_bytes(damage(whole, draw))
        try:
            source = open_source(str(file))
            items = source.scan().items
        except ImgpipeError as error:
            assert name in str(error)
            outcomes["refused"] += 1
            continue
        for item in items:
            outcomes["read" if item.sha256 else "unreadable"] += 1
    assert outcomes["refused"], outcomes
    assert name == "x.tar.gz" or outcomes["read"], "gzip's checksum alone lets nothing through"
