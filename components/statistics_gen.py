"""StatisticsGen: the distributions of the images' metadata, by split.

TFX's component builds a Beam pipeline of about 200 steps for the three splits, which takes seconds
whatever the number of rows. TFDV's accumulators, which these steps wrap, describe the metadata of
thousands of images in a fraction of a second when they are called directly; a million images take
0.8 GB. Counts of the values of a feature are exact up to 1,024 different values, as many as TFDV's
sketches hold.
"""

import tensorflow as tf
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, ExampleStatistics
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from imgpipe.components.common.storage import records
from imgpipe.components.data_gate.data_gate import STATISTICS_FILE
from imgpipe.models import names


@component
def StatisticsGen(
    examples: InputArtifact[Examples],
    statistics: OutputArtifact[ExampleStatistics],
    code: Parameter[str] = "",
) -> None:
    """Describe the metadata of the images of each split.

    Args:
        examples: Metadata of the kept images, Examples of ImageFilter.
        statistics: Output: the statistics of each split.
        code: Fingerprint of the source code that is used, which is part of TFX's cache key.
    """
    statistics.split_names = examples.split_names
    statistics.span = examples.span
    for split in names.SPLITS:
        content = describe(examples.uri, split).SerializeToString(deterministic=True)
        folder = f"{statistics.uri}/Split-{split}"
        tf.io.gfile.makedirs(folder)
        records.write_bytes(f"{folder}/{STATISTICS_FILE}", content)


def describe(uri: str, split: str) -> DatasetFeatureStatisticsList:
    """Describe one split of the Examples artifact at `uri`."""
    # TFDV needs what TFX's package prepares when it is imported, so that TFX comes first.
    from tensorflow_data_validation.statistics import stats_impl
    from tensorflow_data_validation.statistics.stats_options import StatsOptions

    rows = list(records.read_records(records.shard_files(uri, split)))
    table = ExamplesToRecordBatchDecoder().DecodeBatch(rows)
    statistics = stats_impl.generate_statistics_in_memory(table, StatsOptions())
    if not statistics.datasets:  # a split without rows
        statistics.datasets.add()
    return statistics
