"""The decision about a model, as ImageEvaluator writes it to `decision.json`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from typing_extensions import TypedDict

from imgpipe.components.common.image_row import PlacedImage
from imgpipe.models.head.certainty import AccuracyFigures

DECISION_FILE = "decision.json"
#: File beside it with the version that the model was compared with.
BASELINE_FILE = "baseline.json"
#: Name of what decided where it was the folds, beside the names of the splits.
FOLDS: Final = "folds"


#: The new images of a class that are unlike its old ones.
UnlikeImages = TypedDict(
    "UnlikeImages",
    {
        "class": Annotated[str, "Name of the class."],
        "new": Annotated[int, "Number of its new images."],
        "unlike": Annotated[int, "Number of the new images that are unlike the old ones."],
        "images": Annotated[list[PlacedImage], "The first of these, the most unlike first."],
    },
)


class BaselineState(TypedDict):
    """The version that a run is compared with, as ImageEvaluator writes it."""

    version: Annotated[int, "Its number; 0 if there is none."]
    digest: Annotated[str, "Digest of the version."]
    compared: Annotated[bool, "Whether the models are compared."]
    why: Annotated[str, "Why they are not compared; empty if they are."]
    columns: Annotated[
        list[int], "Column of each class in the answers of the version; -1 for unknown classes."
    ]


class ServingCheck(TypedDict):
    """The result of one check of the served model, as ServingValidator writes it."""

    name: Annotated[str, "What is checked."]
    passed: Annotated[bool, "Whether it holds."]
    detail: Annotated[str, "What was found."]


class Ruling(TypedDict):
    """What one rule says about the model."""

    rule: Annotated[str, "Name of the rule, such as threshold."]
    state: Annotated[
        Literal["passed", "refused", "silent"],
        "What follows: `silent` is a rule that has nothing to say about this model, because "
        "nothing can be compared, or another rule refuses what it would judge.",
    ]
    text: Annotated[str, "What was measured, with its interval, and what is asked for."]
    reason: Annotated[str, "Why the model is refused; empty if it is not."]


class DecidingAccuracy(AccuracyFigures):
    """The accuracy that decided about a model. All that tell an accuracy of a run read it here."""

    kind: Annotated[
        Literal["folds", "validation"],
        "What decided: `folds`, where a model that has not seen it answered for each image of "
        "train and validation, or the `validation` split.",
    ]
    folds: Annotated[int | None, "Number of folds; null where the validation split decided."]
    std: Annotated[
        float | None,
        "Standard deviation of the accuracies of the folds; null where the validation split "
        "decided.",
    ]


class Decision(TypedDict):
    """Whether the model is blessed, and why."""

    blessed: Annotated[bool, "Whether the model passed all rules."]
    failed: Annotated[list[str], "Rules that the model did not pass, such as threshold."]
    reasons: Annotated[list[str], "Why, in a sentence for each of these rules."]
    rulings: Annotated[
        list[Ruling], "What every rule says: first those that refuse, then the others."
    ]
    publishing: Annotated[
        list[str] | None,
        "Arguments of `imgpipe run` with which every rule passes the same model; null if there "
        "are none.",
    ]
    figures: Annotated[str, "The accuracy that decided, in words."]
    threshold: Annotated[float, "Accuracy that the model has to reach."]
    decided_by: Annotated[
        DecidingAccuracy, "The accuracy that decided, with its kind, its count and its interval."
    ]
    balanced: Annotated[float | None, "Mean recall of the classes, of the answers that decide."]
    baseline: Annotated[
        float | None,
        "Accuracy of the last version on the compared validation images.",
    ]
    unlike: Annotated[
        list[UnlikeImages], "New images unlike the old ones of their class by more than chance."
    ]
