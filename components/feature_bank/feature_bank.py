"""FeatureBank: runs the frozen backbone once on each image and view, and stores the features.

The output artifact holds all features that ImageTrainer needs, so that lineage and Kubeflow see
them. The store behind it only saves forward passes in later runs. Training images have the image
itself (view 0) and K augmented views; images of other splits have view 0 alone. If the features
exceed the budget or the backbone itself is trained, the records hold no features, and ImageTrainer
reads the images.
"""

from collections.abc import Iterator
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

from imgpipe.components.common.artifacts import (
    DataBlessing,
    Quarantine,
    mark_examples,
    require_data_blessing,
)
from imgpipe.components.common.image_row import read_ingest_summary
from imgpipe.components.common.images import kept as kept_images
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.feature_bank.extraction import ImageFeatures
from imgpipe.components.feature_bank.storage import (
    Kept,
    StoragePlan,
    free_budget,
    make_plan,
    plan_one_block,
)
from imgpipe.models import names
from imgpipe.models.features.bank import read_facts
from imgpipe.models.features.extractor import BankNetwork
from imgpipe.models.machine import progress
from imgpipe.models.settings.course import CourseSettings, FineTune, ViewSettings
from imgpipe.models.settings.given import Given
from imgpipe.models.settings.model import TrainSettings
from imgpipe.models.settings.settings import Settings

_GIBIBYTE = 2**30


@component(use_beam=True)
def FeatureBank(
    examples: InputArtifact[Examples],
    quarantine: InputArtifact[Quarantine],
    data_blessing: InputArtifact[DataBlessing],
    features: OutputArtifact[Examples],
    settings: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Extract the features of every kept image.

    Args:
        examples: Kept images of all splits, Examples of ImageFilter.
        quarantine: Quarantine of ImageFilter, whose table has these images.
        data_blessing: Blessing of DataGate; without it nothing is computed.
        features: Output: feature records, `bank.json` (see
            `imgpipe.models.features.bank.BankFacts`) and the axes of covariances, whose SHA-256 is
            a custom property of the artifact.
        settings: What it reads; see `imgpipe.models.settings.given`.
        beam_pipeline: Beam pipeline, supplied by TFX.

    Raises:
        DataRefused: DataGate did not bless the data.
    """
    require_data_blessing(data_blessing.uri)
    mark_examples(features)
    every_image = kept_images(quarantine.uri)
    images = {split: int((every_image["split"] == split).sum()) for split in names.SPLITS}
    training = every_image[every_image["split"] == names.TRAIN]
    progress.total(sum(images.values()), "images")  # shown while the network is compiled
    given = Given.read(settings)
    read = given.settings
    kept = Kept(examples.uri, features.uri, images[names.TRAIN], given)
    network = kept.with_axes(BankNetwork(of_features(read), read.bank.precision))
    head = read if read.chooses_features else None
    store = str(read.places.bank)
    budget = read.bank.budget
    # Free space changes from run to run, so it is asked for here.
    allowed = free_budget(store, features.uri) if budget is None else budget * _GIBIBYTE
    plan = make_plan(network, store, images, allowed)
    if head is not None and not plan.sizes:  # those of one block may fit
        head = None
        plan = plan_one_block(network, store, images, allowed, plan.note)
    drawn = _validation_drawn(examples.uri)
    bank = ImageFeatures(plan, examples.uri, features.uri, images, training, drawn)
    if head is not None:
        _extract_chosen(bank, kept, head, allowed, beam_pipeline)
    else:
        bank.extract(beam_pipeline)
    features.set_string_custom_property("covariance_axes", read_facts(features.uri)["axes"])


def of_features(settings: Settings) -> Settings:
    """Return settings that are equal where the stored features are: all others have defaults."""
    # Only random weights depend on the seed.
    seed = 0 if settings.backbone_spec().trained else settings.train.seed
    alike = Settings(
        model=settings.model.model_copy(update={"features": settings.largest_kind}),
        train=TrainSettings(seed=seed),
        course=CourseSettings(
            freeze=settings.course.freeze,
            views=ViewSettings(**settings.stored_views.model_dump()),
            fine_tune=FineTune(mode="off"),
        ),
    )
    return alike.with_axes(settings.axes)


def _validation_drawn(examples_uri: str) -> bool:
    """Return whether the run has drawn the validation split, which else the source has named."""
    ingested = read_ingest_summary(examples_uri)
    return (
        ingested is not None
        and names.VALIDATION in SplitRule.model_validate(ingested["rule"]).drawn
    )


def _extract_chosen(
    bank: ImageFeatures, kept: Kept, head: Settings, budget: float, pipeline: beam.Pipeline
) -> None:
    """Extract the features that an earlier run has chosen, or else choose them."""
    earlier = kept.decision()
    if earlier is not None:
        chosen, decision = earlier
        same_size = chosen.image_size == bank.plan.network.settings.size
        plan = bank.plan if same_size else _plan_for_size(bank, kept, chosen.image_size, budget)
        if plan is not None:
            progress.say(
                f"The head reads {chosen.features} features of images of {chosen.image_size} "
                f"pixels, as decided on {decision['time']} by {decision['images']:,} training "
                "images."
            )
            replace(bank, plan=plan).extract_chosen(pipeline, chosen.features, decision)
            return
    larger = _larger_plans(bank, head, kept, budget)
    bank.choose(pipeline, head, len(kept.given.facts.vocabulary), larger, kept.keep)


def _larger_plans(
    bank: ImageFeatures, head: Settings, kept: Kept, budget: float
) -> Iterator[StoragePlan]:
    """Yield the plans for the larger sizes that at least half of the images have and that fit."""
    if not head.larger_sizes:
        return
    usual_side = bank.training[[names.WIDTH, names.HEIGHT]].max(axis=1).median()
    for size in head.larger_sizes:
        plan = None if usual_side < size else _plan_for_size(bank, kept, size, budget)
        if plan is None:
            return
        yield plan


def _plan_for_size(bank: ImageFeatures, kept: Kept, size: int, budget: float) -> StoragePlan | None:
    """Return the plan for another size of the images; None if its features exceed the budget.

    It needs the network of its size, which takes seconds to build.
    """
    network = kept.with_axes(bank.plan.network.changed(image_size=size))
    plan = make_plan(network, bank.plan.store, bank.images, budget)
    return None if plan.note else plan
