"""CrossValidator: k-fold cross-validation, whose result decides where validation is small.

If ImageTrainer has judged its network by folds itself, these decide. If a setting gives a number of
folds, a head is solved for each of them on the images of the others, as ImageTrainer solves it; see
`imgpipe.models.training.cross_validation`. Otherwise the validation split decides. ImageEvaluator
reads the result.
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
    """Say which images decide about the network, and evaluate a head for every fold if asked for.

    Args:
        bank: Features of FeatureBank.
        model_run: ModelRun of ImageTrainer, which says whether the published network is
            fine-tuned, and has the result of the folds by which ImageTrainer has judged it.
        result: Output: ``cross_validation.json``. Where the validation split decides, its
            ``decides`` is false and ``why`` says why.
        folds: Number of folds, or -1: those of ImageTrainer, if it had any.
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
        found = automatic_result(bank.uri, classes, held_out, tuned, by_trainer)
    else:
        rows = read_rows(bank.uri, _SPLITS, classes, count=folds)
        found = cross_validate(rows, folds, classes, head)
        found |= {"alike_apart": rows.separated, "decides": True}
    found |= {
        "automatic": folds == fold_rules.AUTOMATIC,
        "validation_images": held_out,
        "fine_tuned": tuned,
    }
    records.write_json(f"{result.uri}/{FOLDS}", found)


def automatic_result(
    bank_uri: str,
    classes: int,
    held_out: int,
    tuned: bool,
    by_trainer: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the folds by which ImageTrainer has judged its network, or why there are none.

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
        why = f"there are too few independent images for {fold_rules.FOLDS} folds"
    return {"decides": False, "why": f"The validation split decides, because {why}."}
