"""ImageFilter: keeps usable images, and moves rejected files with the reason to the quarantine.

The checks are in `judge/checks/`, which does not need TFX. The stages of the Beam pipeline pass on
neither image bytes nor any other data of every image, so memory does not grow with the number of
images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from imgpipe.components.common.artifacts import Quarantine, mark_examples
from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.common.image_record import (
    INGEST_SUMMARY,
    METADATA,
    ImageRecord,
    read_ingest_summary,
)
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.records import (
    Shard,
    ShardWriter,
    make,
    read_bytes,
    read_examples,
    remove_folder,
    remove_temporary,
    shards,
    write_bytes,
    write_json,
)
from imgpipe.components.image_filter import comparison, image_table, quarantine
from imgpipe.components.image_filter.data_summary import DataSummary, check_conservation, summarise
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.settings import FilterPlan
from imgpipe.models import names
from imgpipe.models.machine import progress

_PARTS = ".parts"  # folder for the rows of single images while the filter runs
_STATISTICS_FEATURES = (*METADATA, names.SPLIT)


@dataclass(frozen=True)
class Uris:
    """URIs of the artifacts that the filter reads and writes."""

    examples: str
    kept: str
    metadata: str
    quarantine: str


@dataclass(frozen=True)
class _Job:
    """A shard of the Examples artifact, and where its outputs are written."""

    uris: Uris
    shard: Shard

    @property
    def part(self) -> str:
        """Path of the rows of each image on its own."""
        return f"{self.uris.quarantine}/{_PARTS}/{self.shard.number}"

    @property
    def hashes(self) -> str:
        """Path of the perceptual hashes, `ALL_BYTES` of each image; zeros for none."""
        return f"{self.part}.hashes"

    @property
    def rows(self) -> str:
        """Path of the rows when all images are known."""
        return image_table.shard_path(self.uris.quarantine, self.shard)

    @property
    def outputs(self) -> dict[str, str]:
        """Paths of the files that a `ShardWriter` writes."""
        return {
            f"{kind}-{split}": path
            for kind, uri in (("kept", self.uris.kept), ("metadata", self.uris.metadata))
            for split, path in self.shard.outputs(uri).items()
        }


def _examine(job: _Job, plan: FilterPlan) -> str:
    """Decide about each image of a shard on its own, and return the path of the rows."""
    rows = []
    hashes = []
    for row, of_image in comparison.examine(_records(job.shard.files), plan):
        rows.append(row)
        hashes.append(of_image)
    image_table.write(job.part, ImageTable(rows, plan.settings.radius))
    write_bytes(job.hashes, b"".join(hashes))
    return job.part


def _compare(parts: Iterable[str], uris: Uris, plan: FilterPlan) -> int:
    """Compare all images, write their rows and the lists, and return the number of images."""
    ingested = read_ingest_summary(uris.examples)
    notes = ingested["notes"] if ingested else ()
    rule = SplitRule.from_json(ingested["rule"]) if ingested else None
    jobs = _jobs(uris)
    by_job = [image_table.read(job.part).rows for job in jobs]
    every_row = [row for rows in by_job for row in rows]
    images = comparison.compare(every_row, _hashes(jobs), plan, rule)
    for row in images.rows:
        row.stored = quarantine.stored_name(row)
    for job, rows in zip(jobs, by_job, strict=True):
        image_table.write(job.rows, ImageTable(rows, images.radius))
    quarantine.write(uris.quarantine, images, summarise(images, plan, notes))
    return len(images.rows)


def _write_shard(job: _Job, compared: int) -> None:
    """Write the outputs of a shard, when all images are compared."""
    rows = image_table.read(job.rows).rows
    with ShardWriter(job.outputs) as writer:
        for record, row in zip(_records(job.shard.files), rows, strict=True):
            if row.rejection is None:
                _write(writer, row.recorded(record.as_served()))
            elif row.stored:
                quarantine.store(job.uris.quarantine, row.stored, record)


def _hashes(jobs: Iterable[_Job]) -> Iterator[bytes]:
    """Yield the perceptual hashes of all images in the order of their rows."""
    for job in jobs:
        content = read_bytes(job.hashes)
        for start in range(0, len(content), ALL_BYTES):
            yield content[start : start + ALL_BYTES]


def _records(paths: Iterable[str]) -> Iterator[ImageRecord]:
    for path in paths:
        yield from map(ImageRecord.from_example, read_examples(path))


def _write(writer: ShardWriter, record: ImageRecord) -> None:
    """Write the Example of an image, and the features that statistics and schema use."""
    features = record.features()
    writer.write(f"kept-{record.split}", make(features))
    described = {k: v for k, v in features.items() if k in _STATISTICS_FEATURES}
    writer.write(f"metadata-{record.split}", make(described))


def _jobs(uris: Uris) -> list[_Job]:
    return [_Job(uris, shard) for shard in shards(uris.examples)]


def filter_examples(pipeline: beam.Pipeline, uris: Uris, plan: FilterPlan) -> DataSummary:
    """Filter all records of an Examples artifact, and return the summary of the quarantine."""
    import tensorflow as tf

    ingested = read_ingest_summary(uris.examples)
    count = ingested["images"] if ingested else None
    # Before the first file is written, so that no other user can ever read one.
    quarantine.make_private(uris.quarantine)
    progress.total(count or 0, "images")
    for folder in (_PARTS, image_table.FOLDER):
        tf.io.gfile.makedirs(f"{uris.quarantine}/{folder}")
    with pipeline as root:
        jobs = root | "Shards" >> beam.Create(_jobs(uris), reshuffle=True)
        compared = (
            jobs
            | "Examine" >> beam.Map(_examine, plan)
            | "All parts" >> beam.combiners.ToList()
            | "Compare" >> beam.Map(_compare, uris, plan)
        )
        jobs | "Write" >> beam.Map(_write_shard, beam.pvalue.AsSingleton(compared))
    if ingested:  # what reads the kept images asks for the rule of the splits, too
        write_json(f"{uris.kept}/{INGEST_SUMMARY}", ingested)
    remove_folder(f"{uris.quarantine}/{_PARTS}")
    for uri in (uris.quarantine, uris.kept, uris.metadata):
        remove_temporary(uri)  # of attempts that died
    quarantine.make_private(uris.quarantine)  # also the files that were written since
    summary = quarantine.read_summary(uris.quarantine)
    check_conservation(summary, count)
    return summary


@component(use_beam=True)
def ImageFilter(
    ingested: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    metadata: OutputArtifact[Examples],
    quarantine: OutputArtifact[Quarantine],
    settings: Parameter[str],
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Filter the Examples of ImageExampleGen.

    Args:
        ingested: The `examples` of ImageExampleGen.
        examples: The kept images, with all features.
        metadata: The same records with only `METADATA` and `SPLIT`, for StatisticsGen.
        quarantine: The rejected files; see `imgpipe.components.image_filter.quarantine`.
        settings: Settings of the checks and decisions about single images, as `FilterPlan`
            writes them.
        code: Fingerprint of the source code of the checks. TFX caches by it, so that a changed
            check never gets a cached result.
    """
    uris = Uris(ingested.uri, examples.uri, metadata.uri, quarantine.uri)
    filter_examples(beam_pipeline, uris, FilterPlan.from_json(settings))
    mark_examples(examples)
    mark_examples(metadata)
