"""FeatureBank: runs the frozen backbone once on each image and view, and stores the features.

The output artifact holds all features that ImageTrainer needs, so that lineage and Kubeflow see
them. The store behind it only saves forward passes in later runs. Training images have the image
itself (view 0) and K augmented views; images of other splits have view 0 alone. If the features
exceed the budget or the backbone itself is trained, the records hold no features, and ImageTrainer
reads the images.
"""

import json
from dataclasses import replace

import apache_beam as beam
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples

from imgpipe.components.common.artifacts import DataBlessing
from imgpipe.components.common.beam import beam_io
from imgpipe.components.common.blessings import require_data_blessing
from imgpipe.components.common.storage import records
from imgpipe.components.feature_bank.content import FREE_DISK, free_budget, make_plan
from imgpipe.components.feature_bank.extraction import ImageFeatures
from imgpipe.models import feature_names as names
from imgpipe.models import progress
from imgpipe.models.examples import Labelled
from imgpipe.models.feature_kinds import one_block
from imgpipe.models.features.extractor import describe, described, resolve_precision
from imgpipe.models.settings import ModelSettings


@component(use_beam=True)
def FeatureBank(
    examples: InputArtifact[Examples],
    metadata: InputArtifact[Examples],
    data_blessing: InputArtifact[DataBlessing],
    features: OutputArtifact[Examples],
    network: Parameter[str],
    weights_key: Parameter[str],
    store: Parameter[str],
    budget: Parameter[float],
    code: Parameter[str],
    vocabulary: Parameter[str] = "[]",
    head: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Extract the features of every kept image.

    Args:
        examples: Kept images of all splits, Examples of ImageFilter.
        metadata: Metadata of the same images without their bytes, from which they are counted.
        data_blessing: Blessing of DataGate; without it nothing is computed.
        features: Output: feature records and ``bank.json`` (see
            `imgpipe.models.features.bank.BankFacts`).
        network: Description of the backbone, as `models.features.extractor.describe` returns it.
        weights_key: Fingerprint of weights and preprocessing, which is part of TFX's cache key.
        store: Folder of the content-addressed store, as `BlobStore` takes it.
        budget: Bytes that the features of a run may take, or `FREE_DISK`.
        code: Fingerprint of the code that extracts, which is part of TFX's cache key.
        vocabulary: JSON list of class names in sorted order.
        head: JSON of the `ModelSettings` of a head that is solved, for which the features are
            chosen; see `ImageFeatures.choose`. "" when they are not.
        beam_pipeline: Beam pipeline, supplied by TFX.

    Raises:
        DataRefused: DataGate did not bless the data.
    """
    require_data_blessing(data_blessing.uri)
    beam_io.mark_examples(features)
    kept = {split: records.count(metadata.uri, split) for split in names.SPLITS}
    progress.total(sum(kept.values()), "images")  # shown while the network is compiled
    allowed = free_budget(store, features.uri) if budget == FREE_DISK else budget
    plan, note = make_plan(network, store, kept, allowed)
    settings, precision = described(network)
    if head and note and not plan.sizes:  # those of one block may fit
        part = one_block(settings.widest)
        head, network = "", describe(replace(settings, features=part), precision)
        plan, note = make_plan(network, store, kept, allowed)
    facts = {
        "note": note,
        "budget_bytes": int(allowed),
        "backbone": settings.network,
        "weights_key": weights_key,
        "precision": resolve_precision(precision),
    }
    bank = ImageFeatures(plan, examples.uri, features.uri, kept, facts)
    if not head:
        bank.extract(beam_pipeline)
        return
    solved, larger = ModelSettings.from_mapping(json.loads(head)), None
    files = f"{examples.uri}/Split-{names.TRAIN}/{records.FILE_PREFIX}-*"
    side = Labelled.read([files]).usual_side()
    if solved.resizable and side >= solved.larger:
        network = describe(replace(settings, image_size=solved.larger), precision)
        larger, note = make_plan(network, store, kept, allowed)
        larger = None if note else larger
    bank.choose(beam_pipeline, solved, len(json.loads(vocabulary)), larger)
