"""Statistics computed without Beam equal those of TFX's executor."""

import numpy as np
import pytest

from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.image_row import METADATA
from imgpipe.components.common.images import COLUMNS
from imgpipe.components.common.storage import records
from imgpipe.models import names
from tests import image_tables
from tests.models.banks import write_examples

# TFX, TFDV and Beam warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_FORMATS = ("jpeg", "png", "gif")


def _rows(count):
    """Return rows with numbers, a text of three different values, and one of two labels."""
    return [
        image_tables.row(
            f"{number}.jpg",
            f"class {number % 2}",
            number % 2,
            names.TRAIN,
            format=_FORMATS[number % 7 % 3],
            width=100 + number * 37 % 91,
            height=80,
            aspect_ratio=float(np.float32((100 + number * 37 % 91) / 80)),
            **dict.fromkeys(MEASUREMENTS, float(np.float32(number * 61 % 97 / 97))),
        )
        for number in range(count)
    ]


def _stock(examples, folder):
    from tfx.components.statistics_gen.executor import Executor
    from tfx.types import standard_artifacts

    from imgpipe.components.data_gate.data_gate import read_statistics

    given, made = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    given.uri, given.split_names = examples, records.SPLIT_NAMES_JSON
    made.uri = str(folder)
    folder.mkdir()
    context = Executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=none"]
    )
    Executor(context).Do({"examples": [given]}, {"statistics": [made]}, {"exclude_splits": "[]"})
    return read_statistics(made.uri)


def _canonical(statistics):
    for dataset in statistics.datasets:
        dataset.features.sort(key=lambda feature: list(feature.path.step))
    return statistics


def test_the_statistics_are_those_of_the_beam_pipeline(tmp_path):
    from imgpipe.components.statistics_gen import describe

    rows = _rows(300)
    images = {names.TRAIN: image_tables.table(rows)}  # and two splits without rows
    nothing = image_tables.table([])
    defaults = {name: kind() for name, kind in COLUMNS.items()}
    metadata = [
        (row.split, {name: (defaults | vars(row))[name] for name in (*METADATA, names.SPLIT)})
        for row in rows
    ]
    stock = _stock(write_examples(tmp_path / "metadata", metadata), tmp_path / "stock")
    for split, expected in stock.items():
        found = describe(images.get(split, nothing))
        again = describe(images.get(split, nothing))
        assert found.SerializeToString(deterministic=True) == again.SerializeToString(
            deterministic=True
        )
        assert _canonical(found) == _canonical(expected), split
