"""Statistics computed without Beam equal those of TFX's executor."""

import pytest

from imgpipe.components.common.storage import records
from imgpipe.models import names

# TFX, TFDV and Beam warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_FORMATS = ("jpeg", "png", "gif")


def _metadata(uri, counts):
    """Write an Examples artifact of metadata and return its URI.

    `counts` is the number of rows of each split. A row has numbers, a text of three different
    values, a label, and a feature that every third row lacks.
    """
    for split in names.SPLITS:
        with records.ShardWriter({split: records.shard_path(uri, split, 0, 1)}) as writer:
            for number in range(counts.get(split, 0)):
                row = {
                    names.LABEL: f"class {number % 2}",
                    "format": _FORMATS[number % 7 % 3],
                    "width": 100 + number * 37 % 91,
                    "brightness": (number * 61 % 97) / 97,
                    **({"sharpness": number / 10} if number % 3 else {}),
                }
                writer.write(split, records.make(row))
    return uri


def _stock(examples, folder):
    """Run TFX's executor on `examples` and return the statistics of each split."""
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
    """Sort the features of the statistics by name and return the statistics."""
    for dataset in statistics.datasets:
        dataset.features.sort(key=lambda feature: list(feature.path.step))
    return statistics


def test_the_statistics_are_those_of_the_beam_pipeline(tmp_path):
    from imgpipe.components.statistics_gen import describe

    uri = _metadata(str(tmp_path / "metadata"), {"train": 300})  # and two splits without rows
    for split, expected in _stock(uri, tmp_path / "stock").items():
        found = describe(uri, split)
        assert found.SerializeToString(deterministic=True) == describe(
            uri, split
        ).SerializeToString(deterministic=True)
        assert _canonical(found) == _canonical(expected), split
