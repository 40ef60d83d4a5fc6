"""ImageFilter: judges every example; clean ones go on, rejects go to quarantine with reasons.

The judgement itself is in `components.checks`, which needs no TFX.
"""

import json

import apache_beam as beam
from tfx import v1 as tfx
from tfx.dsl.component.experimental.annotations import BeamComponentParameter
from tfx.types import standard_artifacts

from components.artifacts import Quarantine
from components.checks.base import Settings
from components.checks.filtering import Places, filter_examples
from components.example_gen import describe


@tfx.dsl.components.component(use_beam=True)
def ImageFilter(
    ingested: tfx.dsl.components.InputArtifact[standard_artifacts.Examples],
    examples: tfx.dsl.components.OutputArtifact[standard_artifacts.Examples],
    metadata: tfx.dsl.components.OutputArtifact[standard_artifacts.Examples],
    quarantine: tfx.dsl.components.OutputArtifact[Quarantine],
    vocabulary: tfx.dsl.components.Parameter[str],
    min_side: tfx.dsl.components.Parameter[int] = 16,
    pixel_limit: tfx.dsl.components.Parameter[int] = 100_000_000,
    skip: tfx.dsl.components.Parameter[str] = "[]",
    code: tfx.dsl.components.Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Judge what ImageExampleGen made.

    Args:
        ingested: The `examples` of ImageExampleGen.
        examples: What is kept, with all features.
        metadata: The same records with `METADATA` and `SPLIT` alone, for StatisticsGen.
        quarantine: The rejects; see `components.checks.quarantine`.
        vocabulary: JSON list of class names in sorted order; sets the rows of the summary.
        min_side: Pixels; a picture with a shorter side is rejected.
        pixel_limit: Pixels, by the header.
        skip: JSON list of checks that are not asked (those marked skippable).
        code: Address of the source code that decides, for the cache alone: a changed judge is
            never answered with an old verdict.
    """
    settings = Settings(min_side, pixel_limit, tuple(json.loads(skip)))
    places = Places(ingested.uri, examples.uri, metadata.uri, quarantine.uri)
    filter_examples(beam_pipeline, places, settings, tuple(json.loads(vocabulary)))
    describe(examples)
    describe(metadata)
