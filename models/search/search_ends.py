"""Why a search ends, in words for people: a function for each reason, and one that records it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Literal

from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.search.training_plan import TrainingPlan
from imgpipe.models.training.history import NetworkHistory, Reproducible, Tried
from imgpipe.models.training.stages import Trained

#: How the trial of a network ended. "judged": the network was compared with the head. "stopped": so
#: it was, but the time ended before its last epoch. "early": it showed no gain, and was trained no
#: further. "late": the time ended before it could be compared.
Outcome = Literal["judged", "stopped", "early", "late"]


def head_is_enough(in_folds: float, on_validation: float | None) -> Finding:
    """Say that the head is good enough; the accuracy on validation is None if folds judge."""
    images = "train and validation" if on_validation is None else "the training images"
    text = (
        f"Nothing else was tried, because the head alone reaches {in_folds:.3f} in "
        f"cross-validation over {images}"
    )
    if on_validation is not None:
        text += f", and {on_validation:.3f} on the validation split"
    return make_finding("enough", text)


def few_images(images: int, most: int) -> Finding:
    """Say that there are few images to learn from, at most `most`, and nobody has given minutes."""
    return make_finding(
        "few_images",
        f"There are {images:,} images to learn from. Up to {most:,}, only the head is "
        "trained; --minutes 15 tries a network, too",
    )


def no_layers() -> Finding:
    """Say that no layers can be trained."""
    return make_finding("all", "The network has no layer above which others could be trained")


def few_mistakes(in_folds: float, held_out: int, least: int) -> Finding:
    """Say that fewer than `least` mistakes of the head are expected on the images that judge."""
    return make_finding(
        "few_mistakes",
        f"Nothing else was tried: the head reaches {in_folds:.3f} in cross-validation, and a "
        f"head of this accuracy is wrong on fewer than {least} of {held_out:,} held-out images, so "
        "that the gain of another network could not be distinguished from chance. More images "
        "would let the search run",
    )


def costly(least: TrainingPlan, needed: float, given: float | None) -> Finding:
    """Say that the smallest training takes longer than a run spends on it.

    The minutes that it takes are those here if minutes are given, and else those on two ordinary
    cores.
    """
    where = "on two ordinary cores" if given is None else "here"
    return make_finding(
        "cost" if given is None else "minutes",
        f"Nothing else was tried, because even {least} would take about "
        f"{in_minutes(needed)} {where}, which is more than a run spends on that; --minutes sets "
        "another limit",
    )


def no_space(plan: TrainingPlan) -> Finding:
    """Say that there is no space for the activations of the images."""
    folder = tempfile.gettempdir()
    return make_finding(
        "space",
        f"Nothing else was tried, because the activations for {plan} would take more than a "
        f"quarter of the free space in {folder}. Free some, or let TMPDIR name another folder",
    )


def after_trial(
    outcome: Outcome, plan: TrainingPlan, most: TrainingPlan, given: float | None
) -> Finding:
    """Say why the search ended after a network was tried.

    `most` is the plan with all views and epochs of the settings; minutes are None if nobody has
    given any.
    """
    if outcome == "late":
        return make_finding("minutes", f"The time ran out before {plan} was evaluated (--minutes)")
    if outcome == "early":
        return make_finding(
            "no_gain",
            "The training ended after a part of the work, which showed no gain that the rest "
            "would make certain",
        )
    if given is not None and (outcome == "stopped" or plan != most):
        return make_finding(
            "minutes",
            f"The minutes that were given ({in_minutes(given)}) have decided what was "
            f"trained. With enough of them, it would have been {most}; another run may end with "
            "another network",
        )
    return make_finding("all", "")


def in_minutes(minutes: float) -> str:
    """Return a duration for people."""
    digits = 0 if minutes >= 100 else 1 if minutes >= 0.1 else 3
    text = f"{round(minutes, digits):.15g}"
    return f"{text} minute" if text == "1" else f"{text} minutes"


def with_search(trained: Trained, tried: list[Tried], ended: Finding) -> Trained:
    """Return the network with the list of what was tried, and why the search ended."""
    chance = ended["reason"] in ("minutes", "space")
    if chance or any(row["failure"] in ("memory", "disk") for row in tried):
        reproducible: Reproducible = "nothing"
    else:
        reproducible = trained.history["reproducible"]
    history: NetworkHistory = {
        **trained.history,
        "search": tried,
        "search_ended": ended,
        "reproducible": reproducible,
    }
    return replace(trained, history=history)
