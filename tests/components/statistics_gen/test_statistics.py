"""Statistics computed without Beam equal those of TFX's executor; large tables are left to TFX."""

from __future__ import annotations

import pytest

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names

# TFX, TFDV and Beam warn about their own dependencies; none of these warnings can be fixed here.
pytestmark = pytest.mark.filterwarnings("ignore")

_SPLITS = (names.TRAIN, names.TEST)  # a split with rows, and a split without rows
_FORMATS = ("jpeg", "png", "gif")


@pytest.fixture(scope="module")
def component():
    """Return the module of the component, which is imported only when a test needs it."""
    from imgpipe.components.statistics_gen import component

    return component


def _metadata(uri, counts, classes=2):
    """Write an Examples artifact of metadata and return its URI.

    `counts` is the number of rows of each split. A row has numbers, a text of three different
    values, a label, and a feature that every third row lacks.
    """
    for split in names.SPLITS:
        with records.ShardWriter({split: records.shard_path(uri, split, 0, 1)}) as writer:
            for number in range(counts.get(split, 0)):
                row = {
                    names.LABEL: f"class {number % classes}",
                    "format": _FORMATS[number % 7 % 3],
                    "width": 100 + number * 37 % 91,
                    "brightness": (number * 61 % 97) / 97,
                    **({"sharpness": number / 10} if number % 3 else {}),
                }
                writer.write(split, records.make(row))
    return uri


def _execute(executor, examples, folder):
    """Run an executor on `examples` and return the artifact of statistics that it wrote.

    There are only two splits, because TFX's executor takes seconds for each of them.
    """
    from tfx.types import artifact_utils, standard_artifacts

    given, made = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    given.uri, given.split_names = examples, artifact_utils.encode_split_names(list(_SPLITS))
    made.uri = str(folder)
    folder.mkdir()
    context = executor.Context(
        beam_pipeline_args=["--runner=FnApiRunner", "--sdk_container_image=none"]
    )
    executor(context).Do({"examples": [given]}, {"statistics": [made]}, {"exclude_splits": "[]"})
    return made


def _read(artifact):
    """Return the statistics of each split in the artifact."""
    from imgpipe.components.data_gate.component import read_statistics

    return read_statistics(artifact.uri)


def _canonical(statistics):
    """Sort the features of the statistics by name and return the statistics."""
    for dataset in statistics.datasets:
        dataset.features.sort(key=lambda feature: list(feature.path.step))
    return statistics


def test_the_statistics_are_those_of_the_beam_pipeline(component, tmp_path):
    uri = _metadata(str(tmp_path / "metadata"), {"train": 300})
    ours = _execute(component.Executor, uri, tmp_path / "ours")
    stock = _execute(component.stock.Executor, uri, tmp_path / "stock")
    assert ours.split_names == stock.split_names
    found, expected = _read(ours), _read(stock)
    assert found.keys() == expected.keys() == set(_SPLITS)
    for split in _SPLITS:
        assert _canonical(found[split]) == _canonical(expected[split]), split


def test_equal_rows_give_equal_bytes(component, tmp_path):
    uri = _metadata(str(tmp_path / "metadata"), {"train": 60})
    first, second = (
        component.describe(uri, "train").SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(("rows", "classes"), [(31, 2), (30, 29)])
def test_large_tables_are_left_to_tfx(component, tmp_path, monkeypatch, rows, classes):
    monkeypatch.setattr(component, "MOST_ROWS", 30)
    monkeypatch.setattr(component, "MOST_VALUES", 28)
    uri = _metadata(str(tmp_path / "metadata"), {"train": rows}, classes)
    assert component.describe(uri, "train") is None
    assert component.describe(uri, "validation") is not None
