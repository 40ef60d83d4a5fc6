"""ImageExampleGen: reads the images of a source and writes one tf.Example for each file.

It is a plain component instead of TFX's FileBasedExampleGen, whose driver computes fingerprints
from modification times and does not run on Kubeflow. Here the fingerprint and the vocabulary are
parameters, computed from the contents, so that one new image is noticed and `touch` changes
nothing. The work is done by `imgpipe.components.example_gen.ingestion`.
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

from imgpipe.components.beam.beam_io import mark_examples
from imgpipe.components.example_gen.ingestion import IngestSettings, ingest
from imgpipe.components.example_gen.sources.base import SourceOptions
from imgpipe.components.image_file.header import PIXEL_LIMIT
from imgpipe.components.splits import SplitRule


@component(use_beam=True)
def ImageExampleGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    source: Parameter[str],
    fingerprint: Parameter[str],
    vocabulary: Parameter[str],
    split_seed: Parameter[int] = 0,
    validation_share: Parameter[float] = 0.1,
    test_share: Parameter[float] = 0.1,
    min_validation: Parameter[int] = 0,
    min_test: Parameter[int] = 0,
    pixel_limit: Parameter[int] = PIXEL_LIMIT,
    options: Parameter[str] = "{}",
    store: Parameter[str] = "",
    code: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Read, decode and measure all images of a source.

    Args:
        examples: Output: splits train, validation and test with the features of an
            `ImageRecord`, and `ingest.json` with a summary.
        source: Source of the images, as `open_source` accepts it.
        fingerprint: `Scan.fingerprint` of the source when the run was planned. "" skips the
            comparison.
        vocabulary: JSON list of class names in sorted order.
        split_seed: Salt of the content hash that assigns the splits.
        validation_share: Share of the images that are assigned to validation, 0 to 1.
        test_share: Share of the images that are assigned to test, 0 to 1. It is not used if the
            source names its splits.
        min_validation: Number of images of each class that ImageFilter places in validation if the
            class has enough; it finds the rule in `ingest.json`.
        min_test: Number of images of each class that ImageFilter places in test, likewise.
        pixel_limit: Largest number of pixels, according to the header, of an image that is
            decoded.
        options: JSON of `SourceOptions`.
        store: Folder of the inspection cache, "" for none.
        code: Fingerprint of the source code that is used, which is part of TFX's cache key.
        beam_pipeline: Beam pipeline, supplied by TFX.
    """
    settings = IngestSettings(
        source=source,
        vocabulary=tuple(json.loads(vocabulary)),
        rule=SplitRule(
            split_seed,
            validation_share,
            test_share,
            min_validation=min_validation,
            min_test=min_test,
        ),
        pixel_limit=pixel_limit,
        fingerprint=fingerprint,
        options=SourceOptions.from_json(options),
        store=store,
    )
    ingest(beam_pipeline, examples.uri, settings)
    mark_examples(examples)
