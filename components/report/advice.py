"""Advice on how to get a better model. Each sentence names the fact from which it follows.

To add a rule, write one function and add one entry to `_RULES`, with the section of the page that
shows the fact. A rule whose fact is missing gives no advice.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.components.report.doubtful_labels import clear
from imgpipe.components.report.text import plural
from imgpipe.models import feature_names as names

#: Number of sentences that are given; with more, people read none.
MOST = 3
#: A class with fewer training images is called small, and so is one with less than this share of
#: the median class.
_FEW, _SMALL_SHARE = 30, 0.25
_ALIKE_SHARE = 0.5  # classes with at least this share of the largest one are about equally large
#: Below this accuracy of the head in cross-validation, many of its doubts are its own mistakes.
_WEAK_HEAD = 0.85
#: Below this accuracy of the head in cross-validation, fine-tuning often helps.
_HEAD_ALONE = 0.97
_MINUTES = 15  # for the search for a better network, where the run gave it no time
_FEWEST_CONFUSED = 2  # one mistake between two classes may be chance
_WORTHWHILE = 0.5  # points of accuracy for twice the images
_SHOWN = 0.05  # points; less is shown as 0.0


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes:
        text: The fact and what to do, as sentences.
        section: Id of the section of the page that shows the fact.
    """

    text: str
    section: str


def advice(facts: Mapping[str, Any]) -> list[Advice]:
    """Return at most `MOST` things to do, those that help most first.

    Args:
        facts: Facts of the run, each of which may be missing or None.
    """
    found = [Advice(text, section) for rule, section in _RULES if (text := rule(facts))]
    return found[:MOST]


def would_more_help(solution: Mapping[str, Any]) -> str:
    """Say what the last doubling of the number of training images gained.

    Args:
        solution: How the head was found, with the points ``{"images", "accuracy"}`` of its
            `learning_curve`, and `gain_error`, the standard error of the last gain.

    Returns:
        A sentence; "" when the curve has fewer than two points.
    """
    curve = solution.get("learning_curve") or []
    if len(curve) < 2:
        return ""
    before, after = curve[-2:]
    gained = 100 * (after["accuracy"] - before["accuracy"])
    seen = f"From {before['images']} to {after['images']} training images, accuracy "
    error = 100 * solution.get("gain_error", math.inf)  # other tools may not know it
    if _WORTHWHILE <= abs(gained) < error:
        verb = "rose" if gained > 0 else "fell"
        return f"{seen}{verb} by {abs(gained):.1f} points, which may be chance."
    if gained >= _WORTHWHILE:
        return f"{seen}rose by {gained:.1f} points, so that more images would probably help."
    change = f"fell by {-gained:.1f} points" if gained < 0 else f"rose by only {gained:.1f} points"
    if abs(gained) < _SHOWN:
        change = "did not change"
    return f"{seen}{change}, so that more such images would help little."


def _doubtful_labels(facts: Mapping[str, Any]) -> str:
    found = facts.get("suspects") or {}
    doubtful = clear(found.get("rows") or [])
    if not doubtful:
        return ""
    verb = "is" if len(doubtful) == 1 else "are"
    accuracy = _solution(facts).get("accuracy")
    weak = ""
    if accuracy is not None and accuracy < _WEAK_HEAD:
        weak = (
            " Many of these labels may be right: the head that flagged them has an accuracy of "
            f"only {accuracy:.2f}."
        )
    return (
        f"{len(doubtful):,} of {plural(found['images'], 'label')} {verb} clearly doubtful. Start "
        "with these: look at each image with imgpipe review, or correct what is wrong in the "
        f"data.{weak}"
    )


def _small_class(facts: Mapping[str, Any]) -> str:
    """Name the class with far fewer training images than the others, or with few of them."""
    by_split = (facts.get("data") or {}).get("by_split") or {}
    counts = by_split.get(names.TRAIN) or {}
    if len(counts) < 2:
        return ""
    name, least = min(counts.items(), key=lambda entry: entry[1])
    usual = statistics.median(counts.values())
    if least >= _FEW and least >= _SMALL_SHARE * usual:
        return ""
    most = max(counts.values())
    if least >= _ALIKE_SHARE * most:
        return f"Each class has at most {plural(most, 'training image')}. Add images of all."
    other = f" (the median class has {usual:g})" if usual > least else ""
    return (
        f"Class {name} has only {plural(least, 'training image')}{other}. Add images of it first."
    )


def _last_epoch(facts: Mapping[str, Any]) -> str:
    """Propose more epochs if the last epoch was the best one."""
    training = facts.get("training") or {}
    if training.get("search"):  # which ends training in small steps, so that the last one is best
        return ""
    tuned = training.get("fine_tune") or {}
    for history, setting in ((training, "train.epochs"), (tuned, "fine_tune.epochs")):
        epochs = len(history.get("epochs") or [])
        if history.get("stopped") == "epochs" and history.get("best_epoch") == epochs:
            return (
                f"Training stopped at the last epoch, {epochs}, which was the best one. Raise "
                f"{setting}, because more epochs would probably help."
            )
    return ""


def _fine_tuning(facts: Mapping[str, Any]) -> str:
    """Propose what lets more layers train if the head on the frozen features is not enough."""
    training = facts.get("training") or {}
    accuracy = _solution(facts).get("accuracy")
    if accuracy is None or accuracy >= _HEAD_ALONE:
        return ""
    changed = (facts.get("settings") or {}).get("changed") or {}
    reached = f"In cross-validation over the training images the head alone reaches {accuracy:.3f}"
    if (training.get("search_ended") or {}).get("reason") == "few_mistakes":
        return (
            f"{reached}, but too few images are held out to show whether another network is "
            "better. Add images, so that the search for a better network can run."
        )
    # A search has tried it, a person does not want it, or a run with folds does not search.
    folds = (changed.get("evaluate.cross_validate") or 0) > 0
    if training.get("fine_tune") or training.get("search") or "fine_tune.mode" in changed or folds:
        return ""
    return (
        f"{reached}. With --minutes {_MINUTES} further layers are trained too, which often helps "
        f"where the head alone reaches less than {_HEAD_ALONE:g}."
    )


def _more_time(facts: Mapping[str, Any]) -> str:
    ended = (facts.get("training") or {}).get("search_ended") or {}
    if ended.get("reason") not in ("few_images", "minutes"):
        return ""
    return (
        "With more time, the search may find a network that is better than this one: use --minutes."
    )


def _confused_classes(facts: Mapping[str, Any]) -> str:
    """Name the two classes that are most often taken for each other in validation."""
    classes = (facts.get("settings") or {}).get("vocabulary") or []
    wrong: Counter[tuple[int, int]] = Counter()
    for label, predicted, count in (facts.get("confusion") or {}).get(names.VALIDATION) or []:
        if label != predicted:
            wrong[min(label, predicted), max(label, predicted)] += count
    [((one, other), count)] = wrong.most_common(1) or [((0, 0), 0)]
    if count < _FEWEST_CONFUSED or len(classes) < 3:
        return ""
    return (
        f"{classes[one]} and {classes[other]} are confused most: {count:,} of "
        f"{plural(wrong.total(), 'mistake')} on the validation split. Add images that show the "
        "difference between the two."
    )


def _solution(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return (facts.get("training") or {}).get("solution") or {}


_RULES: tuple[tuple[Callable[[Mapping[str, Any]], str], str], ...] = (
    (_doubtful_labels, "doubtful_labels"),
    (_small_class, "data"),
    (_last_epoch, "training"),
    (_fine_tuning, "training"),
    (_more_time, "training"),
    (lambda facts: would_more_help(_solution(facts)), "training"),
    (_confused_classes, "confusion"),
)
