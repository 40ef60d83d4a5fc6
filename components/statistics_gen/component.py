"""StatisticsGen: TFX's component, which describes small tables without a Beam pipeline.

TFX's executor builds a Beam pipeline of about 200 steps for the three splits, which takes seconds
whatever the number of rows. TFDV's accumulators, which these steps wrap, describe the metadata of
thousands of images in a fraction of a second when they are called directly. Larger tables are left
to TFX's executor, so that memory does not grow with the number of images.
"""

import itertools
from typing import Any

import pyarrow as pa
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList
from tfx.components.statistics_gen import executor as stock
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.channel import Channel
from tfx.types.component_spec import ExecutionParameter
from tfx.types.standard_artifacts import ExampleStatistics
from tfx.types.standard_component_specs import StatisticsGenSpec
from tfx.utils import json_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from imgpipe.components.storage import records

#: Most rows of a split that are described in this process, about 40 MB of serialised metadata.
MOST_ROWS = 50_000
#: Most distinct values of a feature. Up to here TFDV's sketches hold every value (they have 1,024
#: counters), so that the counts are exact, as those of the Beam pipeline are.
MOST_VALUES = 1_000
_CODE = "code"


class ImageStatisticsGenSpec(StatisticsGenSpec):
    """TFX's StatisticsGenSpec with a fingerprint of the source code."""

    PARAMETERS = {  # noqa: RUF012 - TFX reads a plain dict
        **StatisticsGenSpec.PARAMETERS,
        _CODE: ExecutionParameter(type=str, optional=True),
    }


class Executor(stock.Executor):
    """TFX's executor, without a Beam pipeline where every split is small."""

    def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:
        """Write the statistics of each split; see TFX's executor for the arguments."""
        examples = artifact_utils.get_single_instance(input_dict[specs.EXAMPLES_KEY])
        splits = artifact_utils.decode_split_names(examples.split_names)
        described = {split: describe(examples.uri, split) for split in splits}
        found = {split: one for split, one in described.items() if one is not None}
        if len(found) < len(splits):
            super().Do(input_dict, output_dict, exec_properties)
            return
        artifact = artifact_utils.get_single_instance(output_dict[specs.STATISTICS_KEY])
        artifact.split_names = examples.split_names
        artifact.span = examples.span
        for split, statistics in found.items():
            folder = artifact_utils.get_split_uri([artifact], split)
            fileio.makedirs(folder)
            content = statistics.SerializeToString(deterministic=True)
            records.write_bytes(f"{folder}/{stock.DEFAULT_FILE_NAME}", content)


class StatisticsGen(BaseBeamComponent):
    """Describes the metadata of the images of each split."""

    SPEC_CLASS = ImageStatisticsGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(self, examples: Channel, code: str | RuntimeParameter = "") -> None:
        """Create the component.

        Args:
            examples: Metadata of the kept images, Examples of ImageFilter.
            code: Fingerprint of the source code that is used, which is part of TFX's cache key.
        """
        super().__init__(
            spec=ImageStatisticsGenSpec(
                examples=examples,
                exclude_splits=json_utils.dumps([]),
                statistics=Channel(type=ExampleStatistics),
                code=code,
            )
        )


def describe(uri: str, split: str) -> DatasetFeatureStatisticsList | None:
    """Describe one split of an Examples artifact in this process.

    Args:
        uri: URI of the artifact.
        split: Name of the split.

    Returns:
        The statistics that TFX's executor would write, or None where the split has more rows, or a
        feature more values, than are described here.
    """
    # TFDV needs what TFX's package prepares when it is imported, so that TFX comes first.
    from tensorflow_data_validation.statistics import stats_impl
    from tensorflow_data_validation.statistics.stats_options import StatsOptions

    serialised = records.read_records(records.shard_files(uri, split))
    rows = list(itertools.islice(serialised, MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        return None
    table = ExamplesToRecordBatchDecoder().DecodeBatch(rows)
    if any(_values(column) > MOST_VALUES for column in table.columns):
        return None
    statistics = stats_impl.generate_statistics_in_memory(table, StatsOptions())
    if not statistics.datasets:  # a split without rows
        statistics.datasets.add()
    return statistics


def _values(column: pa.Array) -> int:
    """Return the number of distinct texts in a column of lists; 0 for numbers or nothing."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return 0
    text = pa.types.is_binary(kind.value_type) or pa.types.is_large_binary(kind.value_type)
    return len(column.flatten().unique()) if text else 0
