"""The limits of drift are above differences by chance and below those of real changes.

Measured on 300 photographs per side: halves of cats_dogs, flowers_128, horses_or_humans and
rps_photos diverge by at most 0.12 (the aspect ratio of cats_dogs, whose sizes are odd; all others
by at most 0.06), the same photographs darkened to 0.7 by 0.34 to 0.41, and blurred, greyed or paled
ones by 0.46 to 1. So the limit of 0.3 is more than twice the difference by chance and still below
that of a mild change.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from imgpipe.components.data_gate import drift
from imgpipe.components.data_gate.schema import accepted
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.storage.records import first, text
from tests.images import encoded

pytestmark = [
    pytest.mark.slow,
    # TFX, TFDV and ML Metadata warn about their own dependencies, which cannot be fixed here.
    pytest.mark.filterwarnings("ignore"),
]
_EACH = 300  # photographs per side


class Memory:
    """A source that reads bytes from a dict by path."""

    def __init__(self, files):
        self.files = files

    def read(self, item):
        return self.files[item.path]


@pytest.fixture(scope="module")
def tfdv():
    importlib.import_module("tfx.components")  # before TFDV
    return importlib.import_module("tensorflow_data_validation")


@pytest.fixture(scope="module")
def statistics(tfdv):
    """Return a function that computes TFDV statistics of the Examples of files.

    It takes the files and, optionally, a change that is applied to every image.
    """
    import pandas as pd

    def make(files, change=None):
        data = {}
        for file in files:
            data[str(file)] = file.read_bytes()
            if change is not None:
                with Image.open(file) as image:
                    data[str(file)] = encoded(change(image.convert("RGB")), "JPEG", quality=90)
        items = [Item(str(file), file.parent.name) for file in files]
        rows = []
        for record in inspect(Memory(data), items, 100_000_000):
            example = record.to_example()
            if record.figures:
                named = {name: text(example, name) for name in drift.SHARE_LIMITS}
                numbers = drift.DIVERGENCE_LIMITS
                figures = {name: np.float32(first(example, name)) for name in numbers}
                rows.append(named | figures)
        return tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))

    return make


def halves(shared_data, name):
    """Return two disjoint lists of up to 300 files each of a set."""
    folder = shared_data / name
    files = sorted(folder.glob("*/*.jpg"))
    if not files:
        pytest.skip(f"needs ../shared/data/{name}")
    files = files[:: max(1, len(files) // (2 * _EACH))]
    return files[::2], files[1::2]


def drifted(tfdv, now, before):
    """Return the names of the features that drifted between two statistics."""
    schema = accepted(tfdv.infer_schema(before), ())
    return {found.subject for found in drift.drift({"train": now}, {"train": before}, schema)}


@pytest.mark.parametrize(
    "name", ["cats_dogs", "flowers_128", "horses_or_humans/train", "rps_photos/training"]
)
def test_halves_of_a_set_do_not_drift(shared_data, tfdv, statistics, name):
    one, other = halves(shared_data, name)
    assert drifted(tfdv, statistics(one), statistics(other)) == set()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda image: ImageEnhance.Brightness(image).enhance(0.7), {"brightness"}),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.5), {"contrast", "entropy"}),
        (lambda image: image.convert("L").convert("RGB"), {"colour"}),
        (lambda image: image.filter(ImageFilter.GaussianBlur(8)), {"sharpness"}),
        (lambda image: image.resize((64, 64)), {"aspect_ratio"}),
    ],
    ids=["darker", "paler", "grey", "blurred", "squeezed to 64 pixels"],
)
def test_changed_photographs_of_the_same_set_drift(shared_data, tfdv, statistics, change, named):
    one, other = halves(shared_data, "cats_dogs")
    found = drifted(tfdv, statistics(one, change), statistics(other))
    assert named <= found and "label" not in found


def test_another_set_drifts(shared_data, tfdv, statistics):
    before, _ = halves(shared_data, "cats_dogs")
    now, _ = halves(shared_data, "flowers_128")
    found = drifted(tfdv, statistics(now), statistics(before))
    assert {"label", "aspect_ratio", "sharpness"} <= found
