"""Whether a model is blessed: the one place where this is decided.

`decide` is a pure function from the evidence of a run to a decision, which ImageEvaluator writes to
``decision.json`` beside its blessing. Verdict, summary, report and model card read it there, and
ModelPusher the marker file that follows from it.

A rule is one function in `RULES`. It says what was measured, with its interval, and why the model
is refused. A setting of a rule is a field of the section ``[evaluate]``, which arrives as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imgpipe.components.common import shares

DECISION = "decision.json"
#: Tolerance of every comparison with a limit: 0.97 - 0.01 is less than 0.96 in float64.
SLACK = 1e-6
#: Images of a class that must be held out before a model may be refused for never predicting it.
FEWEST_OF_A_CLASS = 5
#: Lowest recall that every class must be able to have, as a share of the threshold.
_FLOOR = 0.25
_CHANCE = 0.05  # two models differ if the difference has a smaller probability by chance


@dataclass(frozen=True)
class Counts:
    """Answers to held-out images by class, each a list of C numbers.

    Attributes:
        labels: Number of images of each class.
        predicted: Number of images that each class was predicted for.
        right: Number of images of each class for which it was predicted.
        families: Number of independent images of each class, where the images of a family count
            once; empty if all images are independent.
        independent: Number of independent images of all classes; 0 if all are.
    """

    labels: Sequence[int]
    predicted: Sequence[int]
    right: Sequence[int]
    families: Sequence[int] = ()
    independent: int = 0

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.labels)

    @property
    def correct(self) -> int:
        """Number of images whose label was predicted."""
        return sum(self.right)

    @property
    def accuracy(self) -> float | None:
        """Share of correct answers; None without an image."""
        return self.correct / self.images if self.images else None

    def interval(self, label: int | None = None) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy, or of the recall of a class.

        It is that of as many images as there are families, because the images of a family are
        mostly right or wrong together.
        """
        right = self.correct if label is None else self.right[label]
        images = self.images if label is None else self.labels[label]
        count = self.independent_of(label)
        return shares.wilson(right / images * count if images else 0, count)

    def independent_of(self, label: int | None = None) -> int:
        """Return the number of independent images, of all classes or of one."""
        if label is None:
            return self.independent or self.images
        return self.families[label] if self.families else self.labels[label]

    @property
    def balanced(self) -> float | None:
        """Balanced accuracy: the mean recall of the classes that have images; None without any."""
        recalls = [right / n for right, n in zip(self.right, self.labels, strict=True) if n]
        return sum(recalls) / len(recalls) if recalls else None


@dataclass(frozen=True)
class Pairs:
    """Answers of the model and of the last version to the images that neither was trained on.

    Both choose among the classes that both know. The lists have a number for each class.

    Attributes:
        images: Number of images.
        right: Number of images for which the model is right.
        before: Number of images for which the last version is right.
        gained: Number of images for which only the model is right.
    """

    images: Sequence[int]
    right: Sequence[int]
    before: Sequence[int]
    gained: Sequence[int]

    def of(self, label: int | None = None) -> tuple[int, int, int, int]:
        """Return images, right, before and gained of a class, or of all classes."""
        columns = (self.images, self.right, self.before, self.gained)
        images, right, before, gained = (
            sum(column) if label is None else column[label] for column in columns
        )
        return images, right, before, gained


@dataclass(frozen=True)
class Evidence:
    """What is known about a model when `decide` decides about it.

    Attributes:
        vocabulary: Class names in the order of the counts.
        settings: The section ``[evaluate]`` of the configuration.
        validation: Answers of the served signature to the validation images.
        pairs: Comparison with the last version; None if they are not compared.
        version: Number of that version.
        not_compared: Why they are not compared; "" if they are.
        folds: Result of the folds of ImageTrainer where they decide, otherwise None; see
            `cross_validation.summary`.
        unserved: Why the export cannot be served as it was trained; "" if it can.
        unlike: New images that are unlike the old ones of their class, see `new_images.find`.
        unseen: Answers to the validation images of families of which train has no image; None if
            there is no image of a family that train has, too.
        accepted: Whether a person accepts how the images differ from earlier ones.
    """

    vocabulary: Sequence[str]
    settings: Mapping[str, Any]
    validation: Counts
    pairs: Pairs | None = None
    version: int = 0
    not_compared: str = ""
    folds: Mapping[str, Any] | None = None
    unserved: str = ""
    unlike: Sequence[Mapping[str, Any]] = ()
    unseen: Counts | None = None
    accepted: bool = False

    @property
    def demands_nothing(self) -> bool:
        """Whether a person asks for any model, however inaccurate, as in a trial of a pipeline."""
        return self.settings["threshold"] == 0

    @property
    def deciding(self) -> Counts:
        """The answers that decide: those of the folds, or those of the validation split."""
        if self.folds is None:
            return self.validation
        return Counts(
            self.folds["labels"],
            self.folds["predicted"],
            self.folds["right"],
            self.folds["families"],
            self.folds["groups"],
        )

    @property
    def accuracy(self) -> float | None:
        """The accuracy that is compared with the threshold."""
        return self.validation.accuracy if self.folds is None else float(self.folds["mean"])


@dataclass(frozen=True)
class Ruling:
    """What a rule says about a model.

    Attributes:
        text: What was measured, with its interval, and what is asked for.
        reason: Why the model is refused; "" if the rule is passed.
        margin: By how much the limit is exceeded, for the order of the rulings; None without one.
    """

    text: str
    reason: str = ""
    margin: float | None = None


def _threshold(evidence: Evidence) -> Ruling:
    threshold, accuracy = evidence.settings["threshold"], evidence.accuracy
    if evidence.validation.accuracy is None or accuracy is None:
        return Ruling("no accuracy", "no validation image was evaluated")
    missed = accuracy < threshold - SLACK
    balanced = f"balanced accuracy {evidence.deciding.balanced:.3f}"
    return Ruling(
        f"{_figures(evidence)}; {balanced}; at least {threshold:g} is asked for",
        f"it is below the threshold {threshold:g}" if missed else "",
        accuracy - threshold,
    )


def _class_recall(evidence: Evidence) -> Ruling | None:
    """Refuse a class whose recall is surely below a floor, or that is never predicted."""
    floor = evidence.settings["min_recall"]
    floor = _FLOOR * evidence.settings["threshold"] if floor is None else floor
    # The head of a fold cannot have learnt a class that lies in this fold as a whole.
    exempt = {label for label, _ in (evidence.folds or {}).get("unlearned", [])}
    counts = evidence.deciding
    found = [
        (right / images, label, images)
        for label, (right, images) in enumerate(zip(counts.right, counts.labels, strict=True))
        if images and label not in exempt
    ]
    if evidence.demands_nothing or not found:
        return None
    low = [one for one in found if counts.interval(one[1])[1] < floor - SLACK]
    never = [
        (0.0, label, images)
        for looked_at in (evidence.validation, counts)
        for label, images in enumerate(looked_at.labels)
        if images >= FEWEST_OF_A_CLASS and not looked_at.predicted[label] and label not in exempt
    ]
    recall, label, images = min(never or low or found, key=lambda one: (one[0], -one[2]))
    name = evidence.vocabulary[label]
    text = (
        f"lowest recall of a class {recall:.3f}, of {name!r} ({_of(counts, label)}); the interval "
        f"must reach {floor:g}"
    )
    reason, others = "", len({one[1] for one in (*low, *never)}) - 1
    more = f" (and {others:,} other classes)" if others > 0 else ""
    if never:
        reason = f"it never predicts {name!r}{more}, although {images:,} images of it were held out"
    elif low:
        reason = f"the recall of {name!r}{more} is surely below {floor:g} (evaluate.min_recall): "
        reason += _of(counts, label)
    return Ruling(text, reason, recall - floor)


def _commonest_class(evidence: Evidence) -> Ruling | None:
    counts = evidence.deciding
    if evidence.demands_nothing or not counts.images:
        return None
    most = max(counts.labels)
    name = evidence.vocabulary[list(counts.labels).index(most)]
    right, always = f"right for {most:,} of {counts.images:,} images", f"always answering {name!r}"
    refused = counts.correct <= most
    return Ruling(
        f"right for {counts.correct:,}, where {always} is {right}",
        f"it is not better than {always}, which is {right}" if refused else "",
        (counts.correct - most) / counts.images,
    )


def _last_version(evidence: Evidence) -> Ruling:
    """Refuse a model that is worse than the last version, on all images or on those of a class."""
    pairs = evidence.pairs
    if pairs is None or not sum(pairs.images):
        nothing = f"version {evidence.version} was trained on all held-out images"
        return Ruling(evidence.not_compared or nothing)
    classes = [label for label, images in enumerate(pairs.images) if images]
    # One class of many is worse by chance more often than all images together.
    of_classes = (_compared(evidence, pairs, label, _CHANCE / len(classes)) for label in classes)
    overall = _compared(evidence, pairs, None, _CHANCE)
    return next((one for one in (overall, *of_classes) if one.reason), overall)


def _compared(evidence: Evidence, pairs: Pairs, label: int | None, chance: float) -> Ruling:
    """Refuse a drop of more than `max_drop` that has a smaller probability than `chance`."""
    images, right, before, gained = pairs.of(label)
    lost, most = gained + before - right, evidence.settings["max_drop"]
    low, high = shares.difference(lost, gained, images)
    of = "" if label is None else f" of {evidence.vocabulary[label]!r}"
    text = (
        f"right for {right:,} and version {evidence.version} for {before:,} of {images:,} held-out "
        f"images{of} that neither was trained on (difference {(right - before) / images:+.3f}, "
        f"95 % interval {low:+.3f} to {high:+.3f})"
    )
    drop = (before - right) / images
    worse = drop > most + SLACK and shares.mcnemar(gained, lost) < chance
    why = f"it is worse than the last version by more than chance and {most:g} (evaluate.max_drop)"
    return Ruling(text, f"{why}: {text}" if worse else "", -drop)


def _unlike_images(evidence: Evidence) -> Ruling | None:
    """Refuse new images that are unlike the old ones of their class until they are accepted."""
    found = []
    for one in evidence.unlike:
        number, paths = one["unlike"], [str(row["path"]) for row in one["images"][:3]]
        more = f" and {number - len(paths):,} more" if number > len(paths) else ""
        which = f"{number:,} of {one['new']:,} new images of {one['class']!r}"
        found.append(f"{which} are unlike its old images ({', '.join(paths)}{more})")
    what = "correct the data (the report shows them), or run again with --accept"
    text = "; ".join(found)
    if evidence.accepted or not found:
        return Ruling(f"{text}; they were accepted") if found else None
    return Ruling(text, f"{text}: {what}")


def _served(evidence: Evidence) -> Ruling:
    return Ruling("the exported model answers as the trained one", evidence.unserved)


#: Figures of the folds that a decision repeats, for the model card.
_OF_FOLDS = ("folds", "mean", "std", "images", "correct")
#: The rules by the name under which a decision lists them, in the order of its reasons.
RULES: dict[str, Callable[[Evidence], Ruling | None]] = {
    "threshold": _threshold,
    "class_recall": _class_recall,
    "commonest_class": _commonest_class,
    "last_version": _last_version,
    "unlike_images": _unlike_images,
    "serving": _served,
}


def decide(evidence: Evidence) -> dict[str, Any]:
    """Decide whether a model is blessed.

    Args:
        evidence: What is known about the model.

    Returns:
        The decision as values that can be written as JSON: ``blessed``, ``failed`` (names of the
        rules), ``reasons`` (a sentence for each of them), ``rulings`` (of every rule, the worst
        first), ``figures`` (the accuracy that decided, in words), and these figures as numbers.
    """
    found = {name: ruling for name, rule in RULES.items() if (ruling := rule(evidence))}
    refused = {name: ruling.reason for name, ruling in found.items() if ruling.reason}
    validation, pairs = evidence.validation, evidence.pairs
    images, _, before, _ = pairs.of() if pairs else (0, 0, 0, 0)
    return {
        "blessed": not refused,
        "failed": list(refused),
        "reasons": list(refused.values()),
        "rulings": [
            {"rule": name, **asdict(ruling)} for name, ruling in sorted(found.items(), key=_order)
        ],
        "figures": _figures(evidence),
        "split": "validation",
        "threshold": evidence.settings["threshold"],
        "value": validation.accuracy,
        "balanced": evidence.deciding.balanced,
        "count": validation.images,
        "correct": validation.correct if validation.images else None,
        "ci95": list(validation.interval()),
        "unseen": _unseen(evidence),
        "baseline": before / images if images else None,
        "unlike": list(evidence.unlike),
        "folds": evidence.folds and {key: evidence.folds[key] for key in _OF_FOLDS},
    }


def _order(named: tuple[str, Ruling]) -> tuple[bool, float]:
    """Put rules that refuse first, then those whose limit is nearest."""
    ruling = named[1]
    return not ruling.reason, 1.0 if ruling.margin is None else ruling.margin


def _unseen(evidence: Evidence) -> dict[str, Any] | None:
    """Return images, correct, accuracy and interval of the validation images of new families."""
    unseen = evidence.unseen
    if unseen is None:
        return None
    return {
        "count": unseen.images,
        "correct": unseen.correct,
        "accuracy": unseen.accuracy,
        "ci95": list(unseen.interval()),
    }


def _of(counts: Counts, label: int) -> str:
    """Describe the recall of a class."""
    low, high = counts.interval(label)
    images = f"{counts.labels[label]:,} images{_in_families(counts, label)}"
    return f"{counts.right[label]:,} of {images}, 95 % interval {low:.2f}–{high:.2f}"


def _in_families(counts: Counts, label: int | None = None) -> str:
    """Say how many of the images are independent, if they are not all."""
    images = counts.images if label is None else counts.labels[label]
    independent = counts.independent_of(label)
    return f" in {independent:,} independent groups" if independent < images else ""


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
    low, high = counts.interval()
    of += _in_families(counts)
    return f"validation accuracy {text} ({of}, 95 % interval {low:.2f}–{high:.2f})"
