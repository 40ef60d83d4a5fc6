"""ImageFilter: judges every example; clean ones go on, rejects go to quarantine with reasons.

The judgement itself is in `imgpipe.components.image_filter.checks`, which needs no TFX.
"""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from imgpipe.components.artifacts import Quarantine
from imgpipe.components.beam_io import mark_examples
from imgpipe.components.image_filter.beam_driver import Places, filter_examples
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.overrides import from_json, resolve


@component(use_beam=True)
def ImageFilter(
    ingested: InputArtifact[standard_artifacts.Examples],
    examples: OutputArtifact[standard_artifacts.Examples],
    metadata: OutputArtifact[standard_artifacts.Examples],
    quarantine: OutputArtifact[Quarantine],
    vocabulary: Parameter[str],
    min_side: Parameter[int] = 16,
    pixel_limit: Parameter[int] = 100_000_000,
    severity: Parameter[str] = "{}",
    threshold: Parameter[str] = "{}",
    overrides: Parameter[str] = "[]",
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Judge what ImageExampleGen made.

    Args:
        ingested: The `examples` of ImageExampleGen.
        examples: What is kept, with all features.
        metadata: The same records with `METADATA` and `SPLIT` alone, for StatisticsGen.
        quarantine: The rejects; see `imgpipe.components.image_filter.quarantine`.
        vocabulary: JSON list of class names in sorted order; sets the rows of the summary.
        min_side: Pixels; an image with a shorter side is rejected.
        pixel_limit: Pixels, by the header.
        severity: JSON object, check → reject, repair, warn or ignore, where it is not the usual.
        threshold: JSON object, check → number, where it is not the usual.
        overrides: What people decided about single images; see `checks.overrides.to_json`.
        code: Address of the source code that decides, for the cache alone: a changed judge is
            never answered with an old verdict.
    """
    classes = tuple(json.loads(vocabulary))
    settings = Settings(
        min_side,
        pixel_limit,
        json.loads(severity),
        json.loads(threshold),
        resolve(from_json(overrides), classes),
    )
    places = Places(ingested.uri, examples.uri, metadata.uri, quarantine.uri)
    filter_examples(beam_pipeline, places, settings, classes)
    mark_examples(examples)
    mark_examples(metadata)
