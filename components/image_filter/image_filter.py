"""ImageFilter: keeps usable images, and moves rejected files with the reason to the quarantine.

The checks are in `judge/checks/`, which does not need TFX. One process decides about all images by
the rows that ImageExampleGen has written of them, without their bytes. The workers then write the
kept images and the rejected files, shard by shard.
"""

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

from imgpipe.components.common import images
from imgpipe.components.common.artifacts import Quarantine, mark_examples
from imgpipe.components.common.image_row import (
    INGEST_SUMMARY,
    OF_KEPT,
    read_ingest_summary,
    served_bytes,
    to_example,
)
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.common.storage.records import (
    Shard,
    ShardWriter,
    raw,
    read_examples,
    remove_temporary,
    shards,
    write_json,
)
from imgpipe.components.image_filter import engine, quarantine
from imgpipe.components.image_filter.findings import ImageFindings
from imgpipe.components.image_filter.judge.examine import examine
from imgpipe.components.image_filter.summary import DataSummary, check_conservation, summarise
from imgpipe.models import names
from imgpipe.models.machine import progress
from imgpipe.models.settings.given import Given


@dataclass(frozen=True)
class Uris:
    """URIs of the artifacts that the filter reads and writes."""

    examples: str
    kept: str
    quarantine: str


@dataclass(frozen=True)
class _Job:
    """A shard of the Examples artifact, and where its outputs are written."""

    uris: Uris
    shard: Shard

    @property
    def read_rows(self) -> str:
        """Path of the rows that ImageExampleGen has written."""
        return images.shard_path(self.uris.examples, self.shard.number, self.shard.of)

    @property
    def rows(self) -> str:
        """Path of the rows with what was decided."""
        return images.shard_path(self.uris.quarantine, self.shard.number, self.shard.of)


def _decide(uris: Uris, given: Given) -> int:
    """Decide about all images, write their table and the lists, and return the number of images."""
    import pandas as pd

    ingested = read_ingest_summary(uris.examples)
    notes = ingested["notes"] if ingested else ()
    rule = SplitRule.model_validate(ingested["rule"]) if ingested else None
    jobs = _jobs(uris)
    findings = ImageFindings()
    parts = []
    count = 0
    for job in jobs:
        part = images.read_file(job.read_rows, figures=True)
        for number, row in enumerate(images.rows(part), count):
            override = given.facts.decision_about(row.image_hash)
            findings.add(number, *examine(row, given.settings.judge, override))
        parts.append(part[[*images.COLUMNS]])
        count += len(part)
    table = pd.concat(parts, ignore_index=True)
    hashes = (digest for job in jobs for digest in images.perceptual_hashes(job.read_rows))
    judgement = engine.judge(table, findings, hashes, given, rule)
    quarantine.name_stored(judgement)
    first = 0
    for job, part in zip(jobs, parts, strict=True):
        images.write(job.rows, table[first : first + len(part)], large_from=job.read_rows)
        first += len(part)
    quarantine.write(uris.quarantine, judgement.findings, summarise(judgement, given, notes))
    return count


def _write_shard(job: _Job, decided: int) -> None:
    """Write the outputs of a shard, when all images are decided about."""
    rows = images.read_file(job.rows).itertuples()
    examples = (example for file in job.shard.files for example in read_examples(file))
    with ShardWriter(job.shard.outputs(job.uris.kept)) as writer:
        for example, row in zip(examples, rows, strict=True):
            image_bytes = raw(example, names.IMAGE_BYTES)
            if not row.reason:
                writer.write(row.split, to_example(row, served_bytes(row, image_bytes), OF_KEPT))
            elif row.stored:
                quarantine.store(job.uris.quarantine, row.stored, image_bytes)
            progress.advance(1, "images")


def _jobs(uris: Uris) -> list[_Job]:
    return [_Job(uris, shard) for shard in shards(uris.examples)]


def filter_examples(pipeline: beam.Pipeline, uris: Uris, given: Given) -> DataSummary:
    """Filter all records of an Examples artifact, and return the summary of the quarantine."""
    ingested = read_ingest_summary(uris.examples)
    count = ingested["images"] if ingested else None
    # Before the first file is written, so that no other user can ever read one.
    quarantine.make_private(uris.quarantine)
    progress.total(count or 0, "images")
    with pipeline as root:
        decided = root | "Images" >> beam.Create([uris]) | "Decide" >> beam.Map(_decide, given)
        jobs = root | "Shards" >> beam.Create(_jobs(uris), reshuffle=True)
        jobs | "Write" >> beam.Map(_write_shard, beam.pvalue.AsSingleton(decided))
    if ingested:  # what reads the kept images asks for the rule of the splits, too
        write_json(f"{uris.kept}/{INGEST_SUMMARY}", ingested)
    for uri in (uris.quarantine, uris.kept):
        remove_temporary(uri)  # of attempts that died
    quarantine.make_private(uris.quarantine)  # also the files that were written since
    summary = quarantine.read_summary(uris.quarantine)
    check_conservation(summary, count)
    return summary


@component(use_beam=True)
def ImageFilter(
    ingested: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    quarantine: OutputArtifact[Quarantine],
    settings: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Filter the Examples of ImageExampleGen.

    Args:
        ingested: The `examples` of ImageExampleGen.
        examples: The kept images, each with its label, split and family.
        quarantine: The rejected files, and the table of all images; see
            `imgpipe.components.image_filter.quarantine`.
        settings: What it reads; see `imgpipe.models.settings.given`.
    """
    uris = Uris(ingested.uri, examples.uri, quarantine.uri)
    filter_examples(beam_pipeline, uris, Given.read(settings))
    mark_examples(examples)
