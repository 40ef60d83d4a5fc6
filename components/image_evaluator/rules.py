"""Whether a model is blessed: the one place where this is decided.

`decide` is a pure function from the evidence of a run to a `Decision`, which ImageEvaluator writes
beside its blessing. Verdict, summary, report and manifest read it there, and ModelPusher the marker
file that follows from it.

A rule is one function in `RULES`. It says what was measured, with its interval, and why the model
is refused. A setting of a rule is a field of the section `[evaluate]`, which arrives as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import interval_text, plural, text_below
from imgpipe.components.image_evaluator.decision import (
    FOLDS,
    DecidingAccuracy,
    Decision,
    Ruling,
    UnlikeImages,
)
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.models import names
from imgpipe.models.head.certainty import CHANCE, interval, paired_answers, wanted_size
from imgpipe.models.training.history import Folds

#: Tolerance of every comparison with a limit: 0.97 - 0.01 is less than 0.96 in float64.
SLACK = 1e-6
#: How far below the threshold the interval of an accuracy that reaches it may begin: 20 independent
#: images then bless one in six models of 0.85 at 0.9, and 100 one in ten; see docs/benchmarks.md,
#: "Intervals and refusals".
WIDEST: Final = 0.15
#: Lowest recall that every class must be able to have, as a share of the threshold.
_FLOOR = 0.25
#: Lowest recall that a class must be able to have if it is never predicted, as a share of the
#: accuracy: the recalls of the classes differ.
_FLOOR_OF_NEVER = 0.6


@dataclass(frozen=True)
class Evidence:
    """What is known about a model when `decide` decides about it.

    Attributes:
        settings: Requirements on the model.
        answers: Answers of the served signature to the images of validation and test, and those of
            the folds, where these decide.
        compared: Answers of the model and of the last version, among the classes that both know, to
            the images that neither was trained on; None if they are not compared.
        version: Number of that version.
        not_compared: Why they are not compared; "" if they are.
        folds: Result of the folds of ImageTrainer where they decide, otherwise None; see
            `cross_validation.summary`.
        unserved: Why the export cannot be served as it was trained; "" if it can.
        unlike: New images that are unlike the old ones of their class; see `new_images`.
        accepted: Whether a person accepts how the images differ from earlier ones.
    """

    settings: EvaluateSettings
    answers: AnswerTable
    compared: tuple[AnswerTable, AnswerTable] | None = None
    version: int = 0
    not_compared: str = ""
    folds: Folds | None = None
    unserved: str = ""
    unlike: Sequence[UnlikeImages] = ()
    accepted: bool = False

    @property
    def demands_nothing(self) -> bool:
        """Whether a person asks for any model, however inaccurate, as in a trial of a pipeline."""
        return self.settings.threshold == 0

    @functools.cached_property
    def validation(self) -> AnswerTable:
        """The answers to the validation images."""
        return self.answers.of_split(names.VALIDATION)

    @functools.cached_property
    def deciding(self) -> AnswerTable:
        """The answers that decide: those of the folds, or those to the validation split."""
        return self.answers.deciding()

    @property
    def judged_by(self) -> str:
        """The images of the answers that decide, in words."""
        return "in validation" if self.folds is None else "in cross-validation"

    @property
    def decided_by(self) -> DecidingAccuracy:
        """The accuracy that is compared with the threshold."""
        folds = self.folds
        return {
            "kind": names.VALIDATION if folds is None else FOLDS,
            **self.deciding.figures(),
            "folds": None if folds is None else folds["folds"],
            "std": None if folds is None else folds["std"],
        }


def _ruling(
    text: str, reason: str = "", figure: float | None = None, margin: float | None = None
) -> Ruling:
    """Return what a rule says; `decide` adds the name of the rule."""
    return {"rule": "", "text": text, "reason": reason, "figure": figure, "margin": margin}


def _threshold(evidence: Evidence) -> Ruling:
    threshold = evidence.settings.threshold
    accuracy = evidence.decided_by["accuracy"]
    if accuracy is None or not len(evidence.validation):
        return _ruling("no accuracy", "no validation image was evaluated")
    missed = accuracy < threshold - SLACK
    balanced = f"balanced accuracy {evidence.deciding.balanced():.3f}"
    return _ruling(
        f"{_figures(evidence)}; {balanced}; at least {threshold:g} is asked for",
        f"it is below the threshold {threshold:g}" if missed else "",
        accuracy,
        accuracy - threshold,
    )


def _evidence(evidence: Evidence) -> Ruling | None:
    answers = evidence.deciding
    if evidence.demands_nothing or not len(answers):
        return None
    return interval_ruling(answers, evidence.settings.threshold, evidence.judged_by)


def interval_ruling(answers: AnswerTable, threshold: float, judged_by: str) -> Ruling:
    """Refuse an accuracy that is high enough, but whose interval cannot carry the decision.

    The interval has to begin above the accuracy of always answering the commonest of several
    classes, and not far below the threshold.

    Args:
        answers: The answers that decide; at least one.
        threshold: Accuracy that is asked for.
        judged_by: Which images they are, in words, such as "in validation".
    """
    figures = answers.figures()
    accuracy = figures["correct"] / len(answers)
    images = np.bincount(answers.labels)
    commonest = float(images.max() / len(answers)) if np.count_nonzero(images) > 1 else 0.0
    least = max(threshold - WIDEST, commonest)
    low = figures["ci95"][0]
    text = (
        f"the 95 % interval of the accuracy {judged_by} begins at {low:.2f}; it has to begin above "
        f"{least:.2f}"
    )
    if low > least or accuracy < threshold - SLACK or accuracy <= commonest:
        return _ruling(text, "", low, low - least)
    known = answers.independent()
    in_families = known < len(answers)
    nouns = ("family", "families") if in_families else ("image", "images")
    more = plural(max(wanted_size(accuracy, least, in_families) - known, 1), *nouns)
    reason = f"it cannot be judged: {plural(known, *nouns)} {judged_by}; about {more} more would do"
    return _ruling(text, reason, low, low - least)


def _class_recall(evidence: Evidence) -> Ruling | None:
    """Refuse a class with a recall below a floor by more than chance, or never predicted."""
    floor = evidence.settings.min_recall
    floor = _FLOOR * evidence.settings.threshold if floor is None else floor
    # The head of a fold cannot have learnt a class that lies in this fold as a whole.
    exempt = {label for label, _ in evidence.folds["unlearned"]} if evidence.folds else set()
    answers = evidence.deciding
    by_class = answers.by_class()
    classes = [label for label, rows in enumerate(by_class) if len(rows) and label not in exempt]
    if evidence.demands_nothing or not classes:
        return None
    # One class of many has a low recall by chance more often than a single one.
    chance = CHANCE / len(classes)
    per_class = answers.per_class()
    accuracy = float(answers.right.mean())
    recalls = []
    low = []
    never = []
    for label in classes:
        of_class = by_class[label]
        row = (float(of_class.right.mean()), label, len(of_class))
        highest = interval(of_class.right, of_class.families, chance)[1]
        recalls.append(row)
        if highest < floor - SLACK:
            low.append(row)
        is_predicted = per_class[answers.vocabulary[label]]["precision"] is not None
        if not is_predicted and highest < _FLOOR_OF_NEVER * accuracy:
            never.append(row)
    recall, label, images = min(never or low or recalls, key=lambda row: (row[0], -row[2]))
    name = answers.vocabulary[label]
    of_class = by_class[label]
    text = (
        f"the class with the fewest right answers {evidence.judged_by} is {name!r}: {recall:.3f} "
        f"({_recall_of(of_class)}); a model is refused where that is below {floor:g} by more "
        "than chance"
    )
    reason = ""
    others = len({label for _, label, _ in (*low, *never)}) - 1
    more = f" (and {plural(others, 'other class', 'other classes')})" if others > 0 else ""
    if never:
        reason = f"it never predicts {name!r}{more}, although {images:,} images of it were held out"
    elif low:
        reason = (
            f"the recall of {name!r}{more}, its share of right answers, is below {floor:g} "
            f"(evaluate.min_recall) {evidence.judged_by} by more than chance: "
            f"{_recall_of(of_class)}"
        )
    return _ruling(text, reason, recall, recall - floor)


def _commonest_class(evidence: Evidence) -> Ruling | None:
    answers = evidence.deciding
    images = len(answers)
    if evidence.demands_nothing or not images:
        return None
    sizes = {name: of_class["count"] for name, of_class in answers.per_class().items()}
    name = max(sizes, key=sizes.__getitem__)
    most = sizes[name]
    correct = int(answers.right.sum())
    always = f"always answering {name!r}"
    judged_by = evidence.judged_by
    text = f"right for {correct:,} of {images:,} images {judged_by}, where {always} is right for"
    reason = (
        f"it is not better {judged_by} than {always}, which is right for {most:,} of {images:,}"
    )
    return _ruling(
        f"{text} {most:,}",
        f"{reason} images" if correct <= most else "",
        correct / images,
        (correct - most) / images,
    )


def _last_version(evidence: Evidence) -> Ruling:
    """Refuse a model that is worse than the last version, on all images or on those of a class."""
    if evidence.compared is None or not len(evidence.compared[0]):
        nothing = f"version {evidence.version} was trained on all validation images"
        return _ruling(evidence.not_compared or nothing)
    now, before = evidence.compared
    overall = _compared(evidence, now, before, CHANCE)
    if overall["reason"]:
        return overall
    classes = [
        (f" of {name!r}", now_of_class, before_of_class)
        for name, now_of_class, before_of_class in zip(
            now.vocabulary, now.by_class(), before.by_class(), strict=True
        )
        if len(now_of_class)
    ]
    # One class of many is worse by chance more often than all images together.
    of_classes = (
        _compared(evidence, now_of_class, before_of_class, CHANCE / len(classes), of)
        for of, now_of_class, before_of_class in classes
    )
    return next((ruling for ruling in of_classes if ruling["reason"]), overall)


def _compared(
    evidence: Evidence, now: AnswerTable, before: AnswerTable, chance: float, of: str = ""
) -> Ruling:
    """Refuse a drop of more than `max_drop` that has a smaller probability than `chance`."""
    pair = paired_answers(before.right, now.right, now.families)
    most = evidence.settings.max_drop
    low, high = pair["ci95"]
    right = int(now.right.sum())
    was_right = int(before.right.sum())
    of_version = "as many" if right == was_right else f"{was_right:,}"
    text = (
        f"right for {right:,} of {len(now):,} validation images{of}{_in_families(now)}, where "
        f"version {evidence.version} is right for {of_version}, both by networks that were not "
        f"trained on them; 95 % interval of the difference {low:+.2f} to {high:+.2f}"
    )
    if evidence.folds is not None:
        text += (
            f"; the other images of the cross-validation are not compared, because version "
            f"{evidence.version} may have learned from them"
        )
    drop = -pair["difference"]
    worse = drop > most + SLACK and pair["p_value"] < chance
    why = f"it is worse than the last version by more than chance and {most:g} (evaluate.max_drop)"
    return _ruling(text, f"{why}: {text}" if worse else "", right / len(now), -drop)


def _unlike_images(evidence: Evidence) -> Ruling | None:
    """Refuse new images that are unlike the old ones of their class until they are accepted."""
    clauses = []
    for of_class in evidence.unlike:
        number = of_class["unlike"]
        paths = [str(row["path"]) for row in of_class["images"][:3]]
        more = f" and {number - len(paths):,} more" if number > len(paths) else ""
        how_many = f"{number:,} of {of_class['new']:,} new images of {of_class['class']!r}"
        clauses.append(f"{how_many} are unlike its old images ({', '.join(paths)}{more})")
    if not clauses:
        return None
    text = "; ".join(clauses)
    if evidence.accepted:
        return _ruling(f"{text}; they were accepted")
    advice = "correct the data (the report shows them), or run again with --accept"
    return _ruling(text, f"{text}: {advice}")


def _served(evidence: Evidence) -> Ruling:
    return _ruling("the exported model answers as the trained one", evidence.unserved)


#: The rules by the name under which a decision lists them, in the order of its reasons.
RULES: dict[str, Callable[[Evidence], Ruling | None]] = {
    "threshold": _threshold,
    "evidence": _evidence,
    "class_recall": _class_recall,
    "commonest_class": _commonest_class,
    "last_version": _last_version,
    "unlike_images": _unlike_images,
    "serving": _served,
}
#: Arguments of `imgpipe run` that turn off what begins with `Evidence.demands_nothing`.
NO_THRESHOLD: Final = ("--set", "evaluate.threshold=0")
#: Arguments of `imgpipe run` with which the same model passes a rule that it did not pass. Nothing
#: publishes a model that cannot be served.
PASSING: dict[str, tuple[str, ...]] = {
    "threshold": ("--set", "evaluate.threshold={reached:g}"),
    "evidence": NO_THRESHOLD,
    "class_recall": NO_THRESHOLD,
    "commonest_class": NO_THRESHOLD,
    "last_version": ("--set", "evaluate.max_drop=1"),
    "unlike_images": ("--accept",),
}


def decide(evidence: Evidence) -> Decision:
    """Decide whether a model is blessed."""
    rulings: list[Ruling] = []
    for name, rule in RULES.items():
        ruling = rule(evidence)
        if ruling is not None:
            rulings.append({**ruling, "rule": name})
    refusals = [ruling for ruling in rulings if ruling["reason"]]
    return {
        "blessed": not refusals,
        "failed": [ruling["rule"] for ruling in refusals],
        "reasons": [ruling["reason"] for ruling in refusals],
        "rulings": sorted(rulings, key=lambda ruling: not ruling["reason"]),
        "figures": _figures(evidence),
        "threshold": evidence.settings.threshold,
        "decided_by": evidence.decided_by,
        "balanced": evidence.deciding.balanced(),
        "baseline": _accuracy_of_last_version(evidence),
        "unlike": list(evidence.unlike),
    }


def _accuracy_of_last_version(evidence: Evidence) -> float | None:
    """Return the accuracy of the last version on the compared images; None without such images."""
    if evidence.compared is None:
        return None
    return evidence.compared[1].figures()["accuracy"]


def _recall_of(of_class: AnswerTable) -> str:
    """Describe the recall of a class by the answers to its images."""
    recall = of_class.figures()
    images = f"{plural(recall['count'], 'image')}{_in_families(of_class)}"
    return f"{recall['correct']:,} of {images}, {interval_text(recall['ci95'])}"


def _in_families(answers: AnswerTable) -> str:
    """Say how many of the images are independent, if they are not all."""
    count = answers.independent()
    independent = plural(count, "family or single image", "families and single images")
    return f" in {independent}" if count < len(answers) else ""


def _figures(evidence: Evidence) -> str:
    """Describe the accuracy that decides; a text of one below the threshold is below it, too."""
    decided_by = evidence.decided_by
    accuracy = decided_by["accuracy"]
    folds = evidence.folds
    if accuracy is None:
        return "no validation accuracy is known"
    text = f"{accuracy:.3f}"
    threshold = evidence.settings.threshold
    if accuracy < threshold - SLACK:
        text = text_below(accuracy, threshold)
    images = f"{plural(decided_by['count'], 'image')}{_in_families(evidence.deciding)}"
    interval_of_accuracy = interval_text(decided_by["ci95"])
    of = f"{decided_by['correct']:,} of {images} correct, {interval_of_accuracy}"
    if folds is None:
        return f"validation accuracy {text} ({of})"
    judges = f"by {folds['folds']} models that had not seen them"
    spread = f"{folds['min']:.3f} to {folds['max']:.3f} each"
    return f"cross-validation accuracy {text} ({of}; {judges}, {spread})"
