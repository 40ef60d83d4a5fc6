"""Whether a model is blessed: the one place where this is decided.

`decide` is a pure function from the evidence of a run to a decision, which ImageEvaluator writes to
``decision.json`` beside its blessing. Verdict, summary, report and model card read it there, and
ModelPusher the marker file that follows from it.

A rule is one function in `RULES`: it returns why the model is refused, or "". A setting of a rule
is a field of the section ``[evaluate]``, which arrives here as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgpipe.components import shares

DECISION = "decision.json"
FOLDS = "cross_validation.json"  # the result of CrossValidator
#: Tolerance of every comparison with a limit: 0.97 - 0.01 is less than 0.96 in float64.
SLACK = 1e-6
#: Images of a class that must be held out before a model may be refused for never predicting it.
FEWEST_OF_A_CLASS = 5


@dataclass(frozen=True)
class Counts:
    """Answers to held-out images.

    Attributes:
        labels: Number of images of each class, [C].
        predicted: Number of images that each class was predicted for, [C].
        correct: Number of images whose label was predicted.
    """

    labels: Sequence[int]
    predicted: Sequence[int]
    correct: int

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.labels)

    @property
    def accuracy(self) -> float | None:
        """Share of correct answers; None without an image."""
        return self.correct / self.images if self.images else None


@dataclass(frozen=True)
class Evidence:
    """What is known about a model when `decide` decides about it.

    Attributes:
        vocabulary: Class names in the order of the counts.
        settings: The section ``[evaluate]`` of the configuration.
        validation: Answers of the served signature to the validation images.
        baseline: Accuracy of the last version on the same images; None if it is not compared.
        version: Number of that version.
        folds: Result of CrossValidator where its folds decide, otherwise None.
        unserved: Why the export cannot be served as it was trained; "" if it can.
    """

    vocabulary: Sequence[str]
    settings: Mapping[str, Any]
    validation: Counts
    baseline: float | None = None
    version: int = 0
    folds: Mapping[str, Any] | None = None
    unserved: str = ""

    @property
    def demands_nothing(self) -> bool:
        """Whether a person asks for any model, however inaccurate, as in a trial of a pipeline."""
        return self.settings["threshold"] == 0

    @property
    def deciding(self) -> Counts:
        """The answers that decide: those of the folds, or those of the validation split."""
        if self.folds is None:
            return self.validation
        return Counts(self.folds["labels"], self.folds["predicted"], self.folds["correct"])

    @property
    def accuracy(self) -> float | None:
        """The accuracy that is compared with the threshold."""
        return self.validation.accuracy if self.folds is None else float(self.folds["mean"])


def _threshold(evidence: Evidence) -> str:
    threshold, accuracy = evidence.settings["threshold"], evidence.accuracy
    if evidence.validation.accuracy is None or accuracy is None:
        return "no validation image was evaluated"
    return f"it is below the threshold {threshold:g}" if accuracy < threshold - SLACK else ""


def _baseline(evidence: Evidence) -> str:
    accuracy, baseline = evidence.validation.accuracy, evidence.baseline
    if accuracy is None or baseline is None:
        return ""
    if accuracy >= baseline - evidence.settings["max_drop"] - SLACK:
        return ""
    reached, before = shares.apart(accuracy, baseline)
    which = f"which version {evidence.version} reached"
    return f"validation accuracy {reached} is below {before}, {which}"


def _commonest(evidence: Evidence) -> str:
    counts = evidence.deciding
    most = max(counts.labels, default=0)
    if evidence.demands_nothing or not counts.images or counts.correct > most:
        return ""
    name = evidence.vocabulary[list(counts.labels).index(most)]
    return (
        f"it is not better than always answering {name!r}, which is right for {most:,} of "
        f"{counts.images:,} images"
    )


def _never_predicted(evidence: Evidence) -> str:
    # The head of a fold cannot have learnt a class that lies in this fold as a whole.
    exempt = {label for label, _ in (evidence.folds or {}).get("unlearned", [])}
    looked_at = [(evidence.validation, set()), (evidence.deciding, exempt)]
    found = {
        evidence.vocabulary[label]: images
        for counts, without in looked_at
        for label, images in enumerate(counts.labels)
        if images >= FEWEST_OF_A_CLASS and not counts.predicted[label] and label not in without
    }
    if evidence.demands_nothing or not found:
        return ""
    name, images = max(found.items(), key=lambda pair: pair[1])
    others = f" (and {len(found) - 1:,} other classes)" if len(found) > 1 else ""
    return f"it never predicts {name!r}{others}, although {images:,} images of it were held out"


def _served(evidence: Evidence) -> str:
    return evidence.unserved


#: Figures of the folds that a decision repeats, for the model card.
_OF_FOLDS = ("folds", "mean", "std", "images", "correct")
#: The rules by the name under which a decision lists them, in the order of its reasons.
RULES: dict[str, Callable[[Evidence], str]] = {
    "threshold": _threshold,
    "baseline": _baseline,
    "commonest_class": _commonest,
    "never_predicted": _never_predicted,
    "serving": _served,
}


def decide(evidence: Evidence) -> dict[str, Any]:
    """Decide whether a model is blessed.

    Args:
        evidence: What is known about the model.

    Returns:
        The decision as values that can be written as JSON: ``blessed``, ``failed`` (names of the
        rules), ``reasons`` (a sentence for each of them), ``figures`` (the accuracy that decided,
        in words), and these figures as numbers.
    """
    refused = {name: why for name, rule in RULES.items() if (why := rule(evidence))}
    validation = evidence.validation
    return {
        "blessed": not refused,
        "failed": list(refused),
        "reasons": list(refused.values()),
        "figures": _figures(evidence),
        "split": "validation",
        "threshold": evidence.settings["threshold"],
        "value": validation.accuracy,
        "count": validation.images,
        "correct": validation.correct if validation.images else None,
        "ci95": list(shares.wilson(validation.correct, validation.images)),
        "baseline": evidence.baseline,
        "folds": evidence.folds and {key: evidence.folds[key] for key in _OF_FOLDS},
    }


def _figures(evidence: Evidence) -> str:
    """Describe the accuracy that decides; a text of one below the threshold is below it, too."""
    accuracy, folds, counts = evidence.accuracy, evidence.folds, evidence.deciding
    if accuracy is None:
        return "no validation accuracy is known"
    text = f"{accuracy:.3f}"
    if accuracy < (threshold := evidence.settings["threshold"]) - SLACK:
        text = shares.below(accuracy, threshold)
    of = f"{counts.correct:,} of {counts.images:,} correct"
    if folds is not None:
        return (
            f"mean accuracy {text} ± {folds['std']:.3f} over {folds['folds']} folds "
            f"({folds['min']:.3f} to {folds['max']:.3f}; {of})"
        )
    low, high = shares.wilson(counts.correct, counts.images)
    return f"validation accuracy {text} ({of}, 95 % interval {low:.2f}–{high:.2f})"
