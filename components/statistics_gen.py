"""StatisticsGen: the distributions of the images' metadata, by split.

It reads the table of images that ImageFilter has written, whose columns are what TFDV describes.
TFX's component builds a Beam pipeline of about 200 steps for the three splits, which takes seconds
whatever the number of rows. TFDV's accumulators, which these steps wrap, describe the metadata of
thousands of images in a fraction of a second when they are called directly; a million images take
0.8 GB. Counts of the values of a feature are exact up to 1,024 different values, as many as TFDV's
sketches hold.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import tensorflow as tf
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleStatistics

from imgpipe.components.common import images
from imgpipe.components.common.artifacts import Quarantine
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.image_row import METADATA
from imgpipe.components.common.storage import records
from imgpipe.components.data_gate.data_gate import STATISTICS_FILE
from imgpipe.models import names


@component
def StatisticsGen(
    quarantine: InputArtifact[Quarantine],
    statistics: OutputArtifact[ExampleStatistics],
    settings: Parameter[str] = "{}",
) -> None:
    """Describe the metadata of the images of each split.

    Args:
        quarantine: Quarantine of ImageFilter, whose table has the kept images.
        statistics: Output: the statistics of each split.
        settings: The fingerprint of the code, which is part of the key of TFX's cache; see
            `imgpipe.models.settings.given`.
    """
    statistics.split_names = records.SPLIT_NAMES_JSON
    kept = images.kept(quarantine.uri)
    for split in names.SPLITS:
        of_split = kept[kept[names.SPLIT] == split]
        content = describe(of_split).SerializeToString(deterministic=True)
        folder = f"{statistics.uri}/Split-{split}"
        tf.io.gfile.makedirs(folder)
        records.write_bytes(f"{folder}/{STATISTICS_FILE}", content)


def describe(kept: pd.DataFrame) -> DatasetFeatureStatisticsList:
    """Describe the images of a split, whose table is as `images.kept` returns it."""
    # TFDV needs what TFX's package prepares when it is imported, so that TFX comes first.
    from tensorflow_data_validation.statistics import stats_impl
    from tensorflow_data_validation.statistics.stats_options import StatsOptions

    statistics = DatasetFeatureStatisticsList()
    if len(kept):
        columns = {name: _feature(kept, name) for name in sorted((*METADATA, names.SPLIT))}
        batch = pa.RecordBatch.from_pydict(columns)
        statistics = stats_impl.generate_statistics_in_memory(batch, StatsOptions())
    else:
        statistics.datasets.add()
    return statistics


def _feature(kept: pd.DataFrame, name: str) -> pa.Array:
    """Return a column as a feature of Examples, which has a list of one value for each image."""
    if name == names.ASPECT_RATIO:
        ratios = kept[names.WIDTH] / kept[names.HEIGHT]
        values = pa.array(ratios.to_numpy(np.float32))
    elif name in MEASUREMENTS:
        values = pa.array(kept[name].to_numpy(np.float32))
    elif kept[name].dtype == object:
        values = pa.array([text.encode("utf-8", "surrogateescape") for text in kept[name]])
    else:
        values = pa.array(kept[name].to_numpy())
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), values)
