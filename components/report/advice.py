"""Advice on how to get a better model. Each sentence names the fact from which it follows.

To add a rule, write one function and add one entry to `_RULES`. A rule whose fact is missing gives
no advice.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.components.report.doubtful_labels import REVIEW_FILE, clear
from imgpipe.components.report.hints import would_more_help
from imgpipe.components.report.text import plural
from imgpipe.models import feature_names as names
from imgpipe.models.search import tried

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
#: Share of validation that is proposed where its images are too few for the search.
_LARGER_VALIDATION = 0.3
_MINUTES = 15  # for the search for a better network, where the run gave it no time
_FEWEST_CONFUSED = 2  # one mistake between two classes may be chance


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
    found = (rule(facts) for rule in _RULES)
    return [said for said in found if said is not None][:MOST]


def doubtful_labels(facts: Mapping[str, Any]) -> Advice | None:
    """Point to the labels that clearly look wrong."""
    found = facts.get("suspects") or {}
    doubtful = clear(found.get("rows") or [])
    if not doubtful:
        return None
    verb = "is" if len(doubtful) == 1 else "are"
    accuracy = ((facts.get("training") or {}).get("solution") or {}).get("accuracy")
    weak = (
        " Many of these labels may be right: the head that flagged them has an accuracy of only "
        f"{accuracy:.2f}."
        if accuracy is not None and accuracy < _WEAK_HEAD
        else ""
    )
    return Advice(
        f"{len(doubtful):,} of {plural(found['images'], 'label')} {verb} clearly doubtful. Start "
        "with these: look at each image with imgpipe review, or correct what is wrong in the data "
        f"or in {REVIEW_FILE} beside this page.{weak}",
        "doubtful_labels",
    )


def small_class(facts: Mapping[str, Any]) -> Advice | None:
    """Name the class with far fewer training images than the others, or with few of them."""
    by_split = (facts.get("data") or {}).get("by_split") or {}
    counts = by_split.get(names.TRAIN) or {}
    if len(counts) < 2:
        return None
    name, least = min(counts.items(), key=lambda entry: entry[1])
    usual = statistics.median(counts.values())
    if least >= _FEW and least >= _SMALL_SHARE * usual:
        return None
    most = max(counts.values())
    if least >= _ALIKE_SHARE * most:
        many = plural(least, "training image") if least == most else f"{least} to {most} images"
        return Advice(f"Each class has only {many}. Add images of every class.", "data")
    other = f" (the median class has {usual:g})" if usual > least else ""
    return Advice(
        f"Class {name} has only {plural(least, 'training image')}{other}. Add images of it first.",
        "data",
    )


def fine_tuning(facts: Mapping[str, Any]) -> Advice | None:
    """Propose what lets more layers train if the head on the frozen features is not enough."""
    training = facts.get("training") or {}
    accuracy = (training.get("solution") or {}).get("accuracy")
    if accuracy is None or accuracy >= _HEAD_ALONE:
        return None
    changed = (facts.get("settings") or {}).get("changed") or {}
    if (training.get("search_ended") or {}).get("reason") == "few_mistakes":
        by_folds = any(tried.by_folds(one) for one in training.get("search") or [])
        if by_folds:
            return Advice(
                f"In cross-validation over the training images the head alone reaches "
                f"{accuracy:.3f}, but there are too few images to show whether another network is "
                "better. Add images, so that the search for a better network can run.",
                "training",
            )
        small = (changed.get("split.validation") or 0) < _LARGER_VALIDATION
        example = f", such as --set split.validation={_LARGER_VALIDATION:g}" if small else ""
        return Advice(
            f"In cross-validation over the training images the head alone reaches {accuracy:.3f}, "
            "but it makes too few mistakes on the validation split to show whether another "
            "network is better. Add validation images, or give more of the images to validation"
            f"{example}, so that the search for a better network can run.",
            "training",
        )
    if training.get("fine_tune") or training.get("search"):  # has tried it
        return None
    if (changed.get("evaluate.cross_validate") or 0) > 0:
        return None  # such a run does not search
    options = ["--set fine_tune.mode=search"] if "fine_tune.mode" in changed else []
    if not options or changed.get("train.minutes") == 0:
        options.append(f"--minutes {_MINUTES}")
    return Advice(
        f"In cross-validation over the training images the head alone reaches {accuracy:.3f}. "
        f"With {' '.join(options)} further layers are trained too, which often helps where the "
        f"head alone reaches less than {_HEAD_ALONE:g}.",
        "training",
    )


def more_time(facts: Mapping[str, Any]) -> Advice | None:
    """Propose more minutes if the search had more to try at the end of its time."""
    training = facts.get("training") or {}
    if (training.get("search_ended") or {}).get("reason") != "minutes":
        return None
    return Advice(
        "The search for a better network had more to try than its time allowed, so that a "
        "longer one may find a better one: use --minutes.",
        "training",
    )


def last_epoch(facts: Mapping[str, Any]) -> Advice | None:
    """Propose more epochs if the last epoch was the best one."""
    training = facts.get("training") or {}
    if training.get("search"):  # which ends training in small steps, so that the last one is best
        return None
    tuned = training.get("fine_tune") or {}
    for history, setting in ((training, "train.epochs"), (tuned, "fine_tune.epochs")):
        epochs = len(history.get("epochs") or [])
        if history.get("stopped") == "epochs" and history.get("best_epoch") == epochs:
            return Advice(
                f"Training stopped at the last epoch, {epochs}, which was the best one. Raise "
                f"{setting}, because more epochs would probably help.",
                "training",
            )
    return None


def more_images(facts: Mapping[str, Any]) -> Advice | None:
    """Say whether more images would help, by the learning curve."""
    solution = (facts.get("training") or {}).get("solution") or {}
    text = would_more_help(solution)
    return Advice(text, "training") if text else None


def confused_classes(facts: Mapping[str, Any]) -> Advice | None:
    """Name the two classes that are most often taken for each other in validation."""
    classes = (facts.get("settings") or {}).get("vocabulary") or []
    wrong: Counter[tuple[int, int]] = Counter()
    for label, predicted, count in (facts.get("confusion") or {}).get(names.VALIDATION) or []:
        if label != predicted:
            wrong[min(label, predicted), max(label, predicted)] += count
    if not wrong or len(classes) < 3:
        return None
    (one, other), count = max(wrong.items(), key=lambda entry: entry[1])
    if count < _FEWEST_CONFUSED:
        return None
    return Advice(
        f"{classes[one]} and {classes[other]} are confused most: {count:,} of "
        f"{plural(wrong.total(), 'mistake')} on the validation split. Add images that show the "
        "difference between the two.",
        "confusion",
    )


_RULES: tuple[Callable[[Mapping[str, Any]], Advice | None], ...] = (
    doubtful_labels,
    small_class,
    last_epoch,
    fine_tuning,
    more_time,
    more_images,
    confused_classes,
)
