"""Every kind of source goes through ingest and filter on Beam, with the same Examples."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.components.common.storage.records import make, raw, text
from imgpipe.models import names
from imgpipe.models.settings.data import DataSettings, JudgeSettings
from tests.components.filtered import Run

COUNT = 12


@pytest.fixture
def images(encode):
    return {f"{'ab'[n % 2]}/{n:02d}.png": encode("PNG", seed=n) for n in range(COUNT)}


def written(root, images, kind):
    for path, data in images.items():
        (root / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "files" / path).write_bytes(data)
    if kind == "zip":
        return shutil.make_archive(str(root / "x"), kind, root / "files")
    if kind == "jsonl":
        rows = [{"path": f"files/{path}", "label": path[0]} for path in images]
        (root / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return root / "x.jsonl"
    if kind == "tfrecord":
        with tf.io.TFRecordWriter(str(root / "x.tfrecord")) as writer:
            for path, data in images.items():
                record = {"image/encoded": data, "image/class/text": path[0]}
                writer.write(make(record).SerializeToString())
        return root / "x.tfrecord"
    return root / "files"


def run(root, spec, **options):
    """Return kept images {hash: (label, bytes)} and rejected ones {path: reason} of a source."""
    done = Run(root, spec, shard_size=5, judge=JudgeSettings(min_side=4), **options)
    kept = {
        text(example, names.IMAGE_HASH): (text(example, names.LABEL), raw(example, "image_bytes"))
        for example in done.kept()
    }
    return kept, {path: row["reason"] for path, row in done.rejects.items()}


@pytest.mark.parametrize("kind", ["folder", "zip", "jsonl", "tfrecord"])
def test_every_kind_of_source_gives_the_same_images(tmp_path, images, kind):
    kept, rejected = run(tmp_path, written(tmp_path / "data", images, kind))
    assert rejected == {}
    assert sorted(kept.values()) == sorted((path[0], data) for path, data in images.items())


def test_rows_of_pixels_are_ingested_and_a_short_row_is_rejected(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (COUNT, 64))
    with (tmp_path / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([n % 2, *row] for n, row in enumerate(values))
    with (tmp_path / "x.csv").open("a") as file:
        file.write("1,2,3\n")
    kept, rejected = run(tmp_path, tmp_path / "x.csv")
    assert rejected == {f"x/{COUNT + 1:07d}.png": "unreadable"} and len(kept) == COUNT


def test_rows_that_contradict_the_source_are_rejected_by_name(tmp_path, images, encode):
    root = written(tmp_path, images, "folder")
    rows = [f"{path},{path[0]}," for path in images]
    rows += ["a/00.png,b,", "../out.png,a,", "gone.png,a,", "b/01.png,q,", "a/02.png,,"]
    (root / "x.csv").write_text("\n".join(["path,label,split", *rows]))
    (root / "c").mkdir()
    (root / "c/99.png").write_bytes(encode("PNG", seed=99))
    with (root / "x.csv").open("a") as file:
        file.write("\nc/99.png,c,")
    options = DataSettings(classes=("a", "b"))
    _, rejected = run(tmp_path, root / "x.csv", data=options)
    assert rejected == {
        "a/00.png": "two_labels",
        "b/01.png": "two_labels",
        f"row-{COUNT + 3:06d}/out.png": "unreadable",
        "gone.png": "unreadable",
        "c/99.png": "outside_classes",
    }
