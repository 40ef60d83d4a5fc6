"""ImageFilter: keeps usable images, and moves rejected files with the reason to the quarantine.

The checks are in `imgpipe.components.image_filter.checks`, which does not need TFX.
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
from tfx.types.standard_artifacts import Examples

from imgpipe.components.artifacts import Quarantine
from imgpipe.components.beam.beam_io import mark_examples
from imgpipe.components.image_filter.beam_driver import Uris, filter_examples
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.overrides import from_json, resolve


@component(use_beam=True)
def ImageFilter(
    ingested: InputArtifact[Examples],
    examples: OutputArtifact[Examples],
    metadata: OutputArtifact[Examples],
    quarantine: OutputArtifact[Quarantine],
    vocabulary: Parameter[str],
    min_side: Parameter[int] = Settings.min_side,
    pixel_limit: Parameter[int] = Settings.pixel_limit,
    severity: Parameter[str] = "{}",
    threshold: Parameter[str] = "{}",
    overrides: Parameter[str] = "[]",
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Filter the Examples of ImageExampleGen.

    Args:
        ingested: The `examples` of ImageExampleGen.
        examples: The kept images, with all features.
        metadata: The same records with only `METADATA` and `SPLIT`, for StatisticsGen.
        quarantine: The rejected files; see `imgpipe.components.image_filter.quarantine`.
        vocabulary: JSON list of class names in sorted order.
        min_side: Length in pixels; images with a shorter side are rejected.
        pixel_limit: Number of pixels; images whose header states more are rejected.
        severity: JSON object of severities by check, for those that are not the default.
        threshold: JSON object of thresholds by check, for those that are not the default.
        overrides: Decisions about single images, as `overrides.to_json` writes them.
        code: Fingerprint of the source code of the checks. TFX caches by it, so that a changed
            check never gets a cached result.
    """
    classes = tuple(json.loads(vocabulary))
    settings = Settings(
        min_side,
        pixel_limit,
        json.loads(severity),
        json.loads(threshold),
        resolve(from_json(overrides), classes),
    )
    uris = Uris(ingested.uri, examples.uri, metadata.uri, quarantine.uri)
    filter_examples(beam_pipeline, uris, settings, classes)
    mark_examples(examples)
    mark_examples(metadata)
