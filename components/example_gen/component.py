"""ImageExampleGen: photographs in, one tf.Example a file out.

A plain component instead of TFX's FileBasedExampleGen: that one's driver fingerprints by
modification time and does not run on Kubeflow. What a driver would find out (`fingerprint`,
`vocabulary`) is a parameter, so `touch` changes nothing and one new photograph is noticed.
The work itself is in `imgpipe.components.example_gen.ingestion`.
"""

import json

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from imgpipe.components.beam_io import mark_examples
from imgpipe.components.example_gen.ingestion import IngestSettings, ingest
from imgpipe.components.example_gen.sources.base import SourceOptions
from imgpipe.components.example_gen.splits import SplitRule


@component(use_beam=True)
def ImageExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    source: Parameter[str],
    fingerprint: Parameter[str],
    vocabulary: Parameter[str],
    split_seed: Parameter[int] = 0,
    validation_share: Parameter[float] = 0.1,
    test_share: Parameter[float] = 0.1,
    pixel_limit: Parameter[int] = 100_000_000,
    options: Parameter[str] = "{}",
    store: Parameter[str] = "",
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Read `source` (a spec for `open_source`).

    Args:
        examples: Splits train, validation and test, each record with the features of
            `imgpipe.models.feature_names`; `ingest.json` beside them says what was read.
        source: Where the photographs are.
        fingerprint: `Scan.fingerprint` of the source when the run was planned; "" for any.
        vocabulary: JSON list of class names in sorted order.
        split_seed: Salt of the content hash that draws the splits.
        validation_share: Of the images, 0..1.
        test_share: Of the images, 0..1; not used where the source names its splits.
        pixel_limit: Pixels; an image with more by its header is not decoded.
        options: JSON of `SourceOptions`.
        store: Folder of what is known by content from earlier runs, "" for none.
        code: Address of the source code that decides, for the cache alone: a changed judge is
            never answered with an old verdict.
    """
    settings = IngestSettings(
        source=source,
        vocabulary=tuple(json.loads(vocabulary)),
        rule=SplitRule(split_seed, validation_share, test_share),
        pixel_limit=pixel_limit,
        fingerprint=fingerprint,
        options=SourceOptions.from_json(options),
        store=store,
    )
    ingest(beam_pipeline, examples.uri, settings)
    mark_examples(examples)
