"""Tests of what a dry run knows about the files without decoding them."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.feature_bank.store import FeatureStore, record_key
from imgpipe.components.image_filter.checks.decodable import transcode
from imgpipe.models.errors import ConfigError
from imgpipe.models.features.extractor import describe, from_description
from imgpipe.pipeline.configuration import beam_options
from imgpipe.pipeline.configuration.config import build
from imgpipe.pipeline.demo import draw_hand
from imgpipe.pipeline.execution import dry_run
from imgpipe.pipeline.source import scan


def draw_images(folder: Path) -> Path:
    """Draw four images of each of two classes, and return the folder."""
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for n in range(4):
            image = draw_hand("rock", seed=10 * n + (label == "b"), size=48)
            image.save(folder / label / f"{n}.png")
    return folder


def contents(config, found):
    """Return the content hash that a dry run expects of each path."""
    return {item.path: content for item, content in dry_run.contents(config, found)}


def test_a_dry_run_knows_the_content_hashes_of_repaired_images(tmp_path: Path):
    """The inspection cache tells what is rejected or repaired, and so what is in the bank."""
    folder = draw_images(tmp_path / "photos")
    draw_hand("paper", seed=7, size=48).save(folder / "a/scan.tif")
    (folder / "b/cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    config = build({"data": {"source": str(folder)}, "run": {"out": str(tmp_path / "out")}})
    found = scan(config)
    hashes = {item.path: item.sha256 for item in found.items}
    before = contents(config, found)
    assert before == hashes, "nobody has looked yet"
    source = open_source(str(folder))
    list(inspect(source, found.items, config.judge.pixel_limit, str(config.judge_store)))
    after = contents(config, found)
    repaired = hashlib.sha256(transcode((folder / "a/scan.tif").read_bytes())[0]).hexdigest()
    assert after["a/scan.tif"] == repaired and "b/cut.jpg" not in after
    assert {p: h for p, h in after.items() if p != "a/scan.tif"} == {
        p: h for p, h in hashes.items() if p not in ("a/scan.tif", "b/cut.jpg")
    }


def test_a_dry_run_reads_a_compressed_archive_in_the_order_of_its_data(tmp_path: Path):
    folder = draw_images(tmp_path / "photos")
    order = ["b/1.png", "a/3.png", "b/0.png", "a/0.png"]
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        for path in order:
            archive.add(folder / path, path)
    source, out = str(tmp_path / "photos.tar.gz"), str(tmp_path / "out")
    config = build({"data": {"source": source}, "run": {"out": out}})
    assert list(contents(config, scan(config))) == order


def test_a_dry_run_refuses_what_a_run_refuses_and_says_what_is_not_known(tmp_path: Path):
    folder = draw_images(tmp_path / "photos")
    tree = {"data": {"source": str(folder)}, "run": {"out": str(tmp_path / "out")}}
    with pytest.raises(ConfigError, match="password"):
        dry_run.describe(build({**tree, "run": {"mlflow": "http://me:secret@localhost"}}))
    described = dry_run.describe(build({**tree, "tune": {"trials": 3}}))
    assert "splits      about train " in described
    assert "tunes       the head, in 3 trials" in described
    described = dry_run.describe(
        build({**tree, "train": {"epochs": 9}, "fine_tune": {"cut": "block10"}})
    )
    assert "note        train.epochs has no effect: the head is solved." in described
    assert "note        fine_tune.cut: only a run checks that the network has this" in described
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("runner", ["local", "flink"])
def test_a_view_is_stored_only_if_everything_that_a_run_stores_of_it_is(
    tmp_path: Path, runner: str
) -> None:
    """An earlier run without fine-tuning has stored features, but no activations."""
    folder = draw_images(tmp_path / "photos")
    config = build(
        {
            "data": {"source": str(folder)},
            "run": {"out": str(tmp_path / "out")},
            "model": {
                "backbone": "conv_8_8_8",
                "weights": "none",
                "freeze": "all",
                "image_size": 32,
            },
            "fine_tune": {"mode": "on", "cut": "conv2"},
            "beam": {"runner": runner, "flink_master": "host:8081" if runner == "flink" else ""},
        }
    )
    extractor = from_description(describe(config.settings, config.bank.precision))
    passes = dry_run._passes(config, scan(config))
    store = FeatureStore(beam_options.store(config.beam, config.bank_store))
    shapes = store.learn_shapes(extractor)
    for tap, length, told in (
        ("", shapes.dim, f"up to {len(passes)} to compute"),
        (extractor.tap, shapes.activation_count, "up to 0 to compute (images and their augmented"),
    ):
        store.put(
            {
                record_key(content, extractor.key(view, tap)): np.zeros(length, np.float16)
                for content, view in passes
            }
        )
        assert told in dry_run.describe(config)
