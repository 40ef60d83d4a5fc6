"""Whether a model is blessed: the one place where this is decided.

`decide` is a pure function from the evidence of a run to a `Decision`, which ImageEvaluator writes
beside its blessing. Verdict, summary, report and manifest read it there, and ModelPusher the marker
file that follows from it.

A rule is one function in `RULES`. It says what was measured, with its interval, and why the model
is refused, or that it has nothing to say. A setting of a rule is a field of the section
`[evaluate]`, which arrives as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.formatting import interval_text, plural, text_below
from imgpipe.components.image_evaluator.decision import Decision, Ruling
from imgpipe.components.image_evaluator.evidence import (
    WIDEST,
    Evidence,
    accuracy_of_commonest,
    least_beginning,
)
from imgpipe.models.head.certainty import CHANCE, interval, paired_answers, wanted_size

#: Tolerance of every comparison with a limit: 0.97 - 0.01 is less than 0.96 in float64.
SLACK = 1e-6
#: Lowest recall that every class must be able to have, as a share of the threshold.
_FLOOR = 0.25
#: Lowest recall that a class must be able to have if it is never predicted, as a share of the
#: accuracy: the recalls of the classes differ.
_FLOOR_OF_NEVER = 0.6


def _ruling(text: str, reason: str = "", silent: bool = False) -> Ruling:
    """Return what a rule says; `decide` adds the name of the rule.

    It refuses with a reason, and passes without one, unless it has nothing to say.
    """
    state: Literal["passed", "refused", "silent"] = "refused" if reason else "passed"
    return {"rule": "", "state": "silent" if silent else state, "text": text, "reason": reason}


def _threshold(evidence: Evidence) -> Ruling | None:
    threshold = evidence.settings.threshold
    accuracy = evidence.decided_by["accuracy"]
    if not len(evidence.validation):
        return _ruling("no accuracy", "no validation image was evaluated")
    if accuracy is None:  # which `_evidence` says, if an accuracy is asked for
        return None
    missed = accuracy < threshold - SLACK
    balanced = f"balanced accuracy {evidence.deciding.balanced():.3f}"
    return _ruling(
        f"{_figures(evidence)}; {balanced}; at least {threshold:g} is asked for",
        f"it is below the threshold {threshold:g}" if missed else "",
    )


def _evidence(evidence: Evidence) -> Ruling | None:
    answers = evidence.deciding
    if evidence.unjudged:
        return _ruling(evidence.unjudged, evidence.unjudged)
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
    least = least_beginning(answers, threshold)
    low = figures["ci95"][0]
    text = (
        f"the 95 % interval of the accuracy {judged_by} begins at {low:.2f}; it has to begin above "
        f"{least:.2f}"
    )
    if low > least:
        return _ruling(text)
    if accuracy < threshold - SLACK or accuracy <= accuracy_of_commonest(answers):
        return _ruling(text, silent=True)  # another rule refuses that
    known = answers.independent()
    in_families = known < len(answers)
    nouns = ("family", "families") if in_families else ("image", "images")
    more = plural(max(wanted_size(accuracy, least, in_families) - known, 1), *nouns)
    reason = f"it cannot be judged: {plural(known, *nouns)} {judged_by}; about {more} more would do"
    return _ruling(text, reason)


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
    return _ruling(text, reason)


def _commonest_class(evidence: Evidence) -> Ruling | None:
    if evidence.demands_nothing or not len(evidence.deciding):
        return None
    return commonest_ruling(evidence.deciding, evidence.judged_by)


def commonest_ruling(answers: AnswerTable, judged_by: str) -> Ruling:
    """Refuse an accuracy that always answering the commonest class has; see `interval_ruling`."""
    images = len(answers)
    sizes = {name: of_class["count"] for name, of_class in answers.per_class().items()}
    name = max(sizes, key=sizes.__getitem__)
    most = sizes[name]
    correct = int(answers.right.sum())
    always = f"always answering {name!r}"
    text = f"right for {correct:,} of {images:,} images {judged_by}, where {always} is right for"
    reason = (
        f"it is not better {judged_by} than {always}, which is right for {most:,} of {images:,}"
    )
    return _ruling(
        f"{text} {most:,}",
        f"{reason} images" if correct <= most else "",
    )


def _last_version(evidence: Evidence) -> Ruling | None:
    """Refuse a model that is worse than the last version, on all images or on those of a class."""
    if evidence.unjudged:
        return None
    if evidence.compared is None or not len(evidence.compared[0]):
        nothing = f"no validation image is new to version {evidence.version} and to this model"
        return _ruling(evidence.not_compared or nothing, silent=True)
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
    return _ruling(text, f"{why}: {text}" if worse else "")


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


def decide(evidence: Evidence) -> Decision:
    """Decide whether a model is blessed."""
    rulings = _rulings(evidence)
    refusals = [ruling for ruling in rulings if ruling["reason"]]
    failed = [ruling["rule"] for ruling in refusals]
    return {
        "blessed": not refusals,
        "failed": failed,
        "reasons": [ruling["reason"] for ruling in refusals],
        "rulings": sorted(rulings, key=lambda ruling: not ruling["reason"]),
        "publishing": _publishing(evidence, failed),
        "figures": _figures(evidence),
        "threshold": evidence.settings.threshold,
        "decided_by": evidence.decided_by,
        "balanced": evidence.deciding.balanced(),
        "baseline": _accuracy_of_last_version(evidence),
        "unlike": list(evidence.unlike),
    }


def _rulings(evidence: Evidence) -> list[Ruling]:
    """Return what each rule says that concerns the model."""
    rulings: list[Ruling] = []
    for name, rule in RULES.items():
        ruling = rule(evidence)
        if ruling is not None:
            rulings.append({**ruling, "rule": name})
    return rulings


def _publishing(evidence: Evidence, failed: Sequence[str]) -> list[str] | None:
    """Return the arguments with which every rule passes the same model; None if there are none.

    The rules are asked: of several thresholds, the highest one that they pass is given.
    """
    settings = evidence.settings
    accuracy = evidence.decided_by["accuracy"]
    if accuracy is None or not failed:
        return None if failed else []
    others = []
    if "last_version" in failed:
        settings = settings.model_copy(update={"max_drop": 1.0})
        others += ["--set", "evaluate.max_drop=1"]
    if "unlike_images" in failed:
        evidence = replace(evidence, accepted=True)
        others.append("--accept")
    # What is reached, and what the interval carries, in whole hundredths.
    reached = (accuracy, evidence.decided_by["ci95"][0] + WIDEST - SLACK)
    lower = [math.floor(100 * value + SLACK) / 100 for value in reached]
    for threshold in (settings.threshold, *lower, 0.0):
        asked = settings.model_copy(update={"threshold": min(threshold, settings.threshold)})
        if all(not ruling["reason"] for ruling in _rulings(replace(evidence, settings=asked))):
            given = ["--set", f"evaluate.threshold={asked.threshold:g}"]
            return [*(given if asked.threshold < settings.threshold else []), *others]
    return None


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
        return "cannot be judged" if evidence.unjudged else "no validation accuracy is known"
    text = f"{accuracy:.3f}"
    threshold = evidence.settings.threshold
    if accuracy < threshold - SLACK:
        text = text_below(accuracy, threshold)
    images = f"{plural(decided_by['count'], 'image')}{_in_families(evidence.deciding)}"
    interval_of_accuracy = interval_text(decided_by["ci95"])
    of = f"{decided_by['correct']:,} of {images} correct, {interval_of_accuracy}"
    if folds is None:
        if len(evidence.deciding) < len(evidence.validation):
            of += "; only images of families that train does not have"
        return f"validation accuracy {text} ({of})"
    judges = f"by {folds['folds']} models that had not seen them"
    spread = f"{folds['min']:.3f} to {folds['max']:.3f} each"
    return f"cross-validation accuracy {text} ({of}; {judges}, {spread})"
