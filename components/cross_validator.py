"""CrossValidator: k-fold cross-validation, whose result decides where validation is small.

It evaluates the recipe for the head, not a single head. For each fold of train and validation it
trains a head on the other folds as ImageTrainer does, and evaluates it on the images of the fold.
See `imgpipe.models.training.cross_validation`. If ImageTrainer has judged its network by folds
itself, these decide. With an automatic number of folds it first decides whether folds
are needed; where they are not, the validation split decides. ImageEvaluator reads the result.
"""

import json
from collections.abc import Mapping
from typing import Any

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, ModelEvaluation, ModelRun

from imgpipe.components.image_evaluator.rules import FOLDS
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.errors import DataRefused, Diverged
from imgpipe.models.features import folds as fold_rules
from imgpipe.models.features.bank import read_facts, read_rows
from imgpipe.models.model_names import HISTORY_FILE
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training.cross_validation import cross_validate

_SPLITS = (names.TRAIN, names.VALIDATION)


@component
def CrossValidator(
    bank: InputArtifact[Examples],
    model_run: InputArtifact[ModelRun],
    result: OutputArtifact[ModelEvaluation],
    folds: Parameter[int],
    training: Parameter[str],
) -> None:
    """Train and evaluate a head for every fold.

    Args:
        bank: Features of FeatureBank.
        model_run: ModelRun of ImageTrainer, which says whether the published network is
            fine-tuned, and has the result of the folds by which ImageTrainer has judged it.
        result: Output: ``cross_validation.json``. Where the validation split decides, its
            ``decides`` is false and ``why`` says why.
        folds: Number of folds, or -1: those of ImageTrainer, or `folds.FOLDS` for a head that is
            trained by epochs, where validation has fewer than `folds.FEW_IMAGES` images.
        training: JSON of the custom config of ImageTrainer, with settings, vocabulary and the
            fingerprint of the code.

    Raises:
        ConfigError: Folds are demanded, and the feature bank holds no features.
        DataRefused: Folds are demanded, and there are too few images for them.
    """
    history = records.read_json(f"{model_run.uri}/{HISTORY_FILE}")
    tuned = bool(history.get("fine_tune"))
    by_trainer = history.get("cross_validation") or {}
    arguments = json.loads(training)
    head, classes = ModelSettings.from_mapping(arguments["model"]), len(arguments["vocabulary"])
    held_out = records.count(bank.uri, names.VALIDATION)
    if folds == fold_rules.AUTOMATIC:
        found = automatic_result(bank.uri, classes, head, held_out, tuned, by_trainer)
    else:
        found = _judged(bank.uri, folds, classes, head)
    found |= {
        "automatic": folds == fold_rules.AUTOMATIC,
        "validation_images": held_out,
        "fine_tuned": tuned,
    }
    records.write_json(f"{result.uri}/{FOLDS}", found)


def automatic_result(
    bank_uri: str,
    classes: int,
    head: ModelSettings,
    held_out: int,
    tuned: bool,
    by_trainer: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluate by folds where these say more about the network than validation does.

    `held_out` is the number of validation images, `tuned` whether the published network is
    fine-tuned, and `by_trainer` the folds of ImageTrainer; see `cross_validation.summary`.
    """
    if by_trainer:
        apart = read_rows(bank_uri, _SPLITS, classes, 0, by_trainer["folds"]).separated
        return {**by_trainer, "alike_apart": apart, "by_search": tuned, "decides": True}
    if held_out >= fold_rules.FEW_IMAGES:
        why = f"it has {held_out} images"
    elif tuned:
        why = "the published network is fine-tuned, and these folds evaluate only heads"
    elif not read_facts(bank_uri).dim:
        why = "the feature bank holds no features for folds"
    else:
        try:
            return _judged(bank_uri, fold_rules.FOLDS, classes, head)
        except Diverged as error:
            why = f"the head of a fold could not be trained ({error})"
        except DataRefused:  # nobody has asked for folds, so this does not refuse the data
            why = f"there are too few independent images for {fold_rules.FOLDS} folds"
    return {"decides": False, "why": f"The validation split decides, because {why}."}


def _judged(bank_uri: str, folds: int, classes: int, head: ModelSettings) -> dict[str, Any]:
    rows = read_rows(bank_uri, _SPLITS, classes, count=folds)
    found = cross_validate(rows, folds, classes, head)
    return {**found, "alike_apart": rows.separated, "decides": True}
