"""Records are streamed from their files, so that memory does not grow with the data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import python_program

_PROGRAM = """
import resource, sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from imgpipe.components.common.beam.beam_io import ReadSplits

def run(uri):
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        _ = (
            pipeline
            | ReadSplits(uri)
            | beam.BatchElements(32, 32)
            | beam.Map(len)
            | beam.CombineGlobally(sum)
            | beam.Map(lambda total: print("records", total))
        )

run(sys.argv[1])
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(sys.argv[2])
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small) // 1024)
"""
_MIB = 1 << 20


def _artifact(folder: Path, mebibytes: int) -> str:
    """Write an Examples artifact of `mebibytes` records of 1 MiB each, spread over the splits."""
    from imgpipe.components.common.storage.records import ShardWriter, make, shard_path
    from imgpipe.models import feature_names as names

    paths = {split: shard_path(str(folder), split, 0, 1) for split in names.SPLITS}
    with ShardWriter(paths) as writer:
        for i in range(mebibytes):
            writer.write(names.SPLITS[i % 3], make({names.IMAGE_BYTES: b"x" * _MIB}))
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [600])
def test_reading_keeps_a_batch_in_memory_and_not_the_data_set(tmp_path: Path, mebibytes: int):
    small = _artifact(tmp_path / "small", 60)
    large = _artifact(tmp_path / "large", mebibytes)
    said = python_program.printed(_PROGRAM, small, large)
    assert f"records {mebibytes}" in said
    grown = int(said.split("grown")[1])
    assert grown < mebibytes / 3, f"{grown} MiB more for {mebibytes} MiB of records"
