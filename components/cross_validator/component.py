"""CrossValidator: blesses by k-fold cross-validation, for data with a small validation split.

It evaluates the recipe for the head, not a single head. For each fold of train and validation it
trains a head on the other folds as ImageTrainer does, and evaluates it on the images of the fold.
See `imgpipe.models.cross_validation`.
"""

import json

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, ModelBlessing

from imgpipe.components import blessings, records
from imgpipe.models import feature_names as names
from imgpipe.models.bank import open_split, read_facts, require_features
from imgpipe.models.cross_validation import cross_validate
from imgpipe.models.settings import ModelSettings

RESULT = "cross_validation.json"
_SPLITS = (names.TRAIN, names.VALIDATION)


@component
def CrossValidator(
    bank: InputArtifact[Examples],
    blessing: OutputArtifact[ModelBlessing],
    folds: Parameter[int],
    threshold: Parameter[float],
    classes: Parameter[int],
    settings: Parameter[str],
    code: Parameter[str],
) -> None:
    """Train and evaluate a head for every fold, and bless by the mean accuracy.

    Args:
      bank: Features of FeatureBank.
      blessing: Output: BLESSED or NOT_BLESSED, and ``cross_validation.json``.
      folds: Number of folds.
      threshold: Mean accuracy that must be reached, 0 to 1.
      classes: Number of classes.
      settings: JSON of the ModelSettings of ImageTrainer.
      code: Fingerprint of the training code, which is part of TFX's cache key.

    Raises:
      ConfigError: The feature bank holds no features.
    """
    require_features(read_facts(bank.uri), "evaluate.cross_validate")
    model_settings = ModelSettings.from_mapping(json.loads(settings))
    with open_split(bank.uri, _SPLITS, classes, folds=folds) as rows:
        found = cross_validate(rows, folds, classes, model_settings).summary()
        separated = rows.separated
    blessed = found["mean"] >= threshold - blessings.SLACK
    result = {
        **found,
        "threshold": threshold,
        "blessed": blessed,
        "alike_apart": separated,
        "fine_tuned": model_settings.fine_tune.wanted,
    }
    records.write_json(f"{blessing.uri}/{RESULT}", result)
    blessings.write(blessing.uri, blessings.BLESSED if blessed else blessings.NOT_BLESSED)
    blessing.set_int_custom_property("blessed", int(blessed))
