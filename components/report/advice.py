"""Advice on how to get a better model. Each sentence names the fact from which it follows.

To add a rule, write one function and add one entry to `_RULES`, with the section of the page that
shows the fact and the command that follows the advice. A rule whose fact is missing gives no
advice.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from imgpipe.components.common.formatting import plural
from imgpipe.components.report.commands import review_command, run_command
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.names import feature_names as names

if TYPE_CHECKING:
    from imgpipe.components.run_record.facts import Facts
    from imgpipe.models.head.solved_head import Solution

#: Number of sentences that are given; with more, people read none.
MOST = 3
#: A class with fewer training images is called small, and so is one with less than this share of
#: the median class.
_FEW = 30
_SMALL_SHARE = 0.25
_ALIKE_SHARE = 0.5  # classes with at least this share of the largest one are about equally large
#: Below this accuracy of the head in cross-validation, fine-tuning often helps.
_HEAD_ALONE = 0.97
_MINUTES = 15  # for the search for a better network, where the run gave it no time
_FEWEST_CONFUSED = 2  # one mistake between two classes may be chance
_WORTHWHILE = 0.5  # points of accuracy for twice the images
_SHOWN = 0.05  # points; less is shown as 0.0


def advice(facts: Facts) -> list[Finding]:
    """Return at most `MOST` things to do, those that help most first.

    The reason of each is the section of the page that shows the fact, the sentence is the fact and
    what to do, and the remedy is the whole command that does it. There is none where no command
    does, or where the folder of the run is not known, as on Kubeflow.
    """
    has_folder = facts["identity"] is not None and facts["identity"]["folder"]
    proposals = []
    for rule, section, command in _RULES:
        remedies = [command(facts)] if has_folder and command(facts) else []
        proposals.append(make_finding(section, rule(facts), remedies))
    return [proposal for proposal in proposals if proposal["sentence"]][:MOST]


def would_more_help(solution: Solution) -> str:
    """Say what the last doubling of the number of training images gained.

    Args:
        solution: How the head was found, with the points of its learning curve.

    Returns:
        A sentence; "" when the curve has fewer than two points.
    """
    curve = solution["learning_curve"] or []
    if len(curve) < 2:
        return ""
    before, after = curve[-2:]
    gained = 100 * (after["accuracy"] - before["accuracy"])
    seen = f"From {before['images']:,} to {after['images']:,} training images, accuracy "
    error = math.inf if solution["gain_error"] is None else 100 * solution["gain_error"]
    if _WORTHWHILE <= abs(gained) < error:
        verb = "rose" if gained > 0 else "fell"
        return f"{seen}{verb} by {abs(gained):.1f} points, which may be chance."
    if gained >= _WORTHWHILE:
        return f"{seen}rose by {gained:.1f} points, so that more images would probably help."
    change = f"fell by {-gained:.1f} points" if gained < 0 else f"rose by only {gained:.1f} points"
    if abs(gained) < _SHOWN:
        change = "did not change"
    return f"{seen}{change}, so that more such images would help little."


def _doubtful_labels(facts: Facts) -> str:
    suspects = facts["suspects"]
    if suspects is None or not suspects["doubtful"]:
        return ""
    verb = "is" if suspects["doubtful"] == 1 else "are"
    return (
        f"{suspects['doubtful']:,} of {plural(suspects['images'], 'label')} {verb} doubtful. "
        "Start with these: look at each image, or correct what is wrong in the data."
    )


def _small_class(facts: Facts) -> str:
    """Name the class with far fewer training images than the others, or with few of them."""
    counts = facts["data"]["by_split"][names.TRAIN] if facts["data"] is not None else {}
    if len(counts) < 2 or not any(counts.values()):
        return ""
    name, least = min(counts.items(), key=lambda entry: entry[1])
    usual = statistics.median(counts.values())
    if least >= _FEW and least >= _SMALL_SHARE * usual:
        return ""
    most = max(counts.values())
    if least >= _ALIKE_SHARE * most:
        return f"Each class has at most {plural(most, 'training image')}. Add images of all."
    median_of_classes = f" (the median class has {usual:g})" if usual > least else ""
    few = plural(least, "training image")
    return f"Class {name} has only {few}{median_of_classes}. Add images of it first."


def _fine_tuning(facts: Facts) -> str:
    """Propose what lets more layers train if the head on the frozen features is not enough."""
    training = facts["training"]
    accuracy = _head_accuracy(facts)
    if training is None or accuracy is None or accuracy >= _HEAD_ALONE:
        return ""
    settings = facts["settings"]
    search_ended = training["search_ended"]
    reached = f"In cross-validation the head alone reaches {accuracy:.3f}"
    if search_ended is not None and search_ended["reason"] == "few_mistakes":
        return (
            f"{reached}, but too few images are held out to show whether another network is "
            "better. Add images, so that the search for a better network can run."
        )
    # A search has tried it, a person does not want it, or a run with folds does not search.
    unwanted = "fine_tune.mode" in settings["changed"] or settings["cross_validate"] > 0
    if training["fine_tune"] or training["search"] or unwanted:
        return ""
    return (
        f"{reached}. In {_MINUTES} minutes further layers are trained too, which often helps where "
        f"the head alone reaches less than {_HEAD_ALONE:g}."
    )


def _more_time(facts: Facts) -> str:
    search_ended = facts["training"]["search_ended"] if facts["training"] is not None else None
    if search_ended is None or search_ended["reason"] not in ("few_images", "cost", "minutes"):
        return ""
    return "With more time, the search may find a network that is better than this one."


def _confused_classes(facts: Facts) -> str:
    """Name the two classes that are most often taken for each other."""
    classes = facts["settings"]["vocabulary"]
    wrong: Counter[tuple[int, int]] = Counter()
    cells = facts["deciding"]["confusion"] if facts["deciding"] is not None else []
    for label, predicted, count in cells:
        if label != predicted:
            wrong[min(label, predicted), max(label, predicted)] += count
    [((first, second), count)] = wrong.most_common(1) or [((0, 0), 0)]
    if count < _FEWEST_CONFUSED or len(classes) < 3:
        return ""
    return (
        f"{classes[first]} and {classes[second]} are confused most: {count:,} of "
        f"{plural(wrong.total(), 'mistake')}. Add images that show the difference between the two."
    )


def _nothing(facts: Facts) -> str:
    return ""


def _longer(facts: Facts) -> str:
    return _run(facts, "--minutes", str(_MINUTES))


def _run(facts: Facts, *arguments: str) -> str:
    folder = facts["identity"]["folder"] if facts["identity"] is not None else ""
    return run_command(folder, arguments)


def _solution(facts: Facts) -> Solution | None:
    """Return how the head was solved; None for another model, or without one."""
    return facts["training"]["solution"] if facts["training"] is not None else None


def _head_accuracy(facts: Facts) -> float | None:
    """Return the accuracy of the solved head over the folds of the training images."""
    solution = _solution(facts)
    return solution["accuracy"] if solution is not None else None


def _more_images(facts: Facts) -> str:
    solution = _solution(facts)
    return would_more_help(solution) if solution is not None else ""


#: Rules with the section that shows their fact, and the command that follows their advice.
_RULES: tuple[tuple[Callable[[Facts], str], str, Callable[[Facts], str]], ...] = (
    (_doubtful_labels, "doubtful_labels", review_command),
    (_small_class, "data", _run),
    (_fine_tuning, "training", _longer),
    (_more_time, "training", _longer),
    (_more_images, "more_images", _nothing),
    (_confused_classes, "taken_for", _run),
)
