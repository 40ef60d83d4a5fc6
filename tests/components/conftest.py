"""Drawn photographs, Beam on the local runner, and the real data where it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.images import encoded, noise

_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def encode():
    """A function (format, size, seed) → bytes of a noise image; every seed another one."""

    def make(kind="JPEG", size=(40, 32), seed=0, mode="RGB", **options):
        return encoded(Image.fromarray(noise(seed, size)).convert(mode), kind, **options)

    return make


@pytest.fixture
def photos(tmp_path, encode):
    """A function {relative path: bytes, or a number for `count` drawn images} → the folder."""
    folder = tmp_path / "photos"

    def make(files):
        seed = 0
        for path, content in files.items():
            if isinstance(content, int):
                drawn = {f"{path}/{n:03d}.jpg": n for n in range(content)}
            else:
                drawn = {path: content}
            for name in drawn:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                seed += 1
                file.write_bytes(content if isinstance(content, bytes) else encode(seed=seed))
        return folder

    return make


@pytest.fixture
def beam_pipeline():
    """A function → a pipeline on the runner that never asks the network for anything."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def make(*flags):
        return beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", *flags]))

    return make


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real images; skips where it is absent."""
    if not _DATA.is_dir():
        pytest.skip("needs ../shared/data, the real images for measurements")
    return _DATA


@pytest.fixture(scope="session")
def broken_images(shared_data):
    """Path below the data folder → what Pillow and TensorFlow say of the file."""
    entries = json.loads((shared_data / "broken_images/manifest.json").read_text())
    return {entry["path"]: entry for entry in entries}
