"""Whether a model is blessed: the one place where this is decided.

`decide` is a pure function from the evidence of a run to a `Decision`, which ImageEvaluator writes
beside its blessing. Verdict, summary, report and model card read it there, and
ModelPusher the marker file that follows from it.

A rule is one function in `RULES`. It says what was measured, with its interval, and why the model
is refused. A setting of a rule is a field of the section `[evaluate]`, which arrives as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from imgpipe.components.common import shares
from imgpipe.components.common.counts import Counts
from imgpipe.components.image_evaluator.decision import Decision, Ruling
from imgpipe.components.image_evaluator.evidence import Evidence, Pairs

#: Tolerance of every comparison with a limit: 0.97 - 0.01 is less than 0.96 in float64.
SLACK = 1e-6
#: Images of a class that must be held out before a model may be refused for never predicting it.
FEWEST_OF_A_CLASS = 5
#: Lowest recall that every class must be able to have, as a share of the threshold.
_FLOOR = 0.25
_CHANCE = 0.05  # two models differ if the difference has a smaller probability by chance


def _ruling(
    text: str, reason: str = "", figure: float | None = None, margin: float | None = None
) -> Ruling:
    """Return what a rule says; `decide` adds the name of the rule."""
    return {"rule": "", "text": text, "reason": reason, "figure": figure, "margin": margin}


def _threshold(evidence: Evidence) -> Ruling:
    threshold = evidence.settings.threshold
    accuracy = evidence.decided_by["accuracy"]
    if evidence.validation.accuracy is None or accuracy is None:
        return _ruling("no accuracy", "no validation image was evaluated")
    missed = accuracy < threshold - SLACK
    balanced = f"balanced accuracy {evidence.deciding.balanced:.3f}"
    return _ruling(
        f"{_figures(evidence)}; {balanced}; at least {threshold:g} is asked for",
        f"it is below the threshold {threshold:g}" if missed else "",
        accuracy,
        accuracy - threshold,
    )


def _class_recall(evidence: Evidence) -> Ruling | None:
    """Refuse a class whose recall is surely below a floor, or that is never predicted."""
    floor = evidence.settings.min_recall
    floor = _FLOOR * evidence.settings.threshold if floor is None else floor
    # The head of a fold cannot have learnt a class that lies in this fold as a whole.
    exempt = {label for label, _ in evidence.folds["unlearned"]} if evidence.folds else set()
    counts = evidence.deciding
    recalls = [
        (right / images, label, images)
        for label, (right, images) in enumerate(zip(counts.right, counts.labels, strict=True))
        if images and label not in exempt
    ]
    if evidence.demands_nothing or not recalls:
        return None
    low = [row for row in recalls if counts.figures(row[1])["ci95"][1] < floor - SLACK]
    never = [
        (0.0, label, images)
        for answers in (evidence.validation, counts)
        for label, images in enumerate(answers.labels)
        if images >= FEWEST_OF_A_CLASS and not answers.predicted[label] and label not in exempt
    ]
    recall, label, images = min(never or low or recalls, key=lambda row: (row[0], -row[2]))
    name = evidence.vocabulary[label]
    text = (
        f"lowest recall of a class {recall:.3f}, of {name!r} ({_recall_of(counts, label)}); the "
        f"interval must reach {floor:g}"
    )
    reason = ""
    others = len({label for _, label, _ in (*low, *never)}) - 1
    more = f" (and {others:,} other classes)" if others > 0 else ""
    if never:
        reason = f"it never predicts {name!r}{more}, although {images:,} images of it were held out"
    elif low:
        reason = f"the recall of {name!r}{more} is surely below {floor:g} (evaluate.min_recall): "
        reason += _recall_of(counts, label)
    return _ruling(text, reason, recall, recall - floor)


def _commonest_class(evidence: Evidence) -> Ruling | None:
    counts = evidence.deciding
    if evidence.demands_nothing or not counts.images:
        return None
    most = max(counts.labels)
    name = evidence.vocabulary[list(counts.labels).index(most)]
    right = f"right for {most:,} of {counts.images:,} images"
    always = f"always answering {name!r}"
    refused = counts.correct <= most
    return _ruling(
        f"right for {counts.correct:,}, where {always} is {right}",
        f"it is not better than {always}, which is {right}" if refused else "",
        counts.accuracy,
        (counts.correct - most) / counts.images,
    )


def _last_version(evidence: Evidence) -> Ruling:
    """Refuse a model that is worse than the last version, on all images or on those of a class."""
    pairs = evidence.pairs
    if pairs is None or not sum(pairs.images):
        nothing = f"version {evidence.version} was trained on all validation images"
        return _ruling(evidence.not_compared or nothing)
    classes = [label for label, images in enumerate(pairs.images) if images]
    # One class of many is worse by chance more often than all images together.
    of_classes = (_compared(evidence, pairs, label, _CHANCE / len(classes)) for label in classes)
    overall = _compared(evidence, pairs, None, _CHANCE)
    return next((ruling for ruling in (overall, *of_classes) if ruling["reason"]), overall)


def _compared(evidence: Evidence, pairs: Pairs, label: int | None, chance: float) -> Ruling:
    """Refuse a drop of more than `max_drop` that has a smaller probability than `chance`."""
    images, right, before, gained = pairs.totals(label)
    lost = gained + before - right
    most = evidence.settings.max_drop
    low, high = shares.difference(lost, gained, images)
    of = "" if label is None else f" of {evidence.vocabulary[label]!r}"
    of_version = "as many" if right == before else f"{before:,}"
    text = (
        f"right for {right:,} of {images:,} validation images{of}, where version "
        f"{evidence.version} is right for {of_version}, both by networks that were not trained on "
        f"them; 95 % interval of the difference {low:+.2f} to {high:+.2f}"
    )
    drop = (before - right) / images
    worse = drop > most + SLACK and shares.mcnemar(gained, lost) < chance
    why = f"it is worse than the last version by more than chance and {most:g} (evaluate.max_drop)"
    return _ruling(text, f"{why}: {text}" if worse else "", right / images, -drop)


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
    "class_recall": NO_THRESHOLD,
    "commonest_class": NO_THRESHOLD,
    "last_version": ("--set", "evaluate.max_drop=1"),
    "unlike_images": ("--accept",),
}


def decide(evidence: Evidence) -> Decision:
    """Decide whether a model is blessed.

    Args:
        evidence: What is known about the model.
    """
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
        "rulings": sorted(rulings, key=_order),
        "figures": _figures(evidence),
        "threshold": evidence.settings.threshold,
        "decided_by": evidence.decided_by,
        "balanced": evidence.deciding.balanced,
        "unseen": None if evidence.unseen is None else evidence.unseen.figures(),
        "baseline": _accuracy_of_last_version(evidence.pairs),
        "unlike": list(evidence.unlike),
    }


def _order(ruling: Ruling) -> tuple[bool, float]:
    """Put rules that refuse first, then those whose limit is nearest."""
    return not ruling["reason"], 1.0 if ruling["margin"] is None else ruling["margin"]


def _accuracy_of_last_version(pairs: Pairs | None) -> float | None:
    """Return the accuracy of the last version on the compared images; None without such images."""
    if pairs is None or not sum(pairs.images):
        return None
    return sum(pairs.before) / sum(pairs.images)


def _recall_of(counts: Counts, label: int) -> str:
    """Describe the recall of a class."""
    images = f"{counts.labels[label]:,} images{_in_families(counts, label)}"
    interval = shares.interval_text(counts.figures(label)["ci95"])
    return f"{counts.right[label]:,} of {images}, {interval}"


def _in_families(counts: Counts, label: int | None = None) -> str:
    """Say how many of the images are independent, if they are not all."""
    images = counts.images if label is None else counts.labels[label]
    independent = counts.independent_of(label)
    return f" in {independent:,} independent groups" if independent < images else ""


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
        text = shares.text_below(accuracy, threshold)
    images = f"{decided_by['count']:,} images{_in_families(evidence.deciding)}"
    interval = shares.interval_text(decided_by["ci95"])
    of = f"{decided_by['correct']:,} of {images} correct, {interval}"
    if folds is None:
        return f"validation accuracy {text} ({of})"
    spread = f"{folds['folds']} folds from {folds['min']:.3f} to {folds['max']:.3f}"
    return f"cross-validation accuracy {text} ({of}; {spread})"
