"""Why a search ends, in words for people: a function for each reason, and one that records it."""

from __future__ import annotations

import tempfile
from dataclasses import replace

from imgpipe.models.search.training_plan import TrainingPlan
from imgpipe.models.training.history import NetworkHistory, Reproducible, SearchEnd, Tried
from imgpipe.models.training.stages import Trained


def head_is_enough(in_folds: float, on_validation: float | None) -> SearchEnd:
    """Say that the head is good enough; the accuracy on validation is None if folds judge."""
    images = "train and validation" if on_validation is None else "the training images"
    text = (
        f"Nothing else was tried, because the head alone reaches {in_folds:.3f} in "
        f"cross-validation over {images}"
    )
    if on_validation is not None:
        text += f", and {on_validation:.3f} on the validation split"
    return SearchEnd(reason="enough", text=f"{text}.")


def few_images(images: int, most: int) -> SearchEnd:
    """Say that there are few images to learn from, at most `most`, and nobody has given minutes."""
    return SearchEnd(
        reason="few_images",
        text=f"There are {images:,} images to learn from. Up to {most:,}, only the head is "
        "trained; --minutes 15 tries a network, too.",
    )


def no_layers() -> SearchEnd:
    """Say that no layers can be trained."""
    return SearchEnd(
        reason="all", text="The network has no layer above which others could be trained."
    )


def few_mistakes(in_folds: float, held_out: int, least: int) -> SearchEnd:
    """Say that fewer than `least` mistakes of the head are expected on the images that judge."""
    return SearchEnd(
        reason="few_mistakes",
        text=f"Nothing else was tried: the head reaches {in_folds:.3f} in cross-validation, and a "
        f"head of this accuracy is wrong on fewer than {least} of {held_out:,} held-out images, so "
        "that the gain of another network could not be distinguished from chance. More images "
        "would let the search run.",
    )


def costly(least: TrainingPlan, needed: float, usual: float) -> SearchEnd:
    """Say that the smallest training takes more minutes than a run spends without being told."""
    return SearchEnd(
        reason="cost",
        text=f"Nothing else was tried, because even {least} would take about {needed:.0f} minutes "
        f"on two ordinary cores, and a run takes at most {usual:g} for that unless it is given "
        "more (--minutes).",
    )


def no_space() -> SearchEnd:
    """Say that there is no space for the activations of the images."""
    return SearchEnd(
        reason="space",
        text="The activations of the training images would take more than a quarter of the free "
        f"space in {tempfile.gettempdir()}.",
    )


def all_tried(trained: TrainingPlan, planned: TrainingPlan) -> SearchEnd:
    """Say that the training was done, perhaps with fewer views because of the space."""
    if trained.views == planned.views:
        return SearchEnd(reason="all", text="")
    return SearchEnd(
        reason="space",
        text=f"The free space in {tempfile.gettempdir()} has decided what was trained: {trained}, "
        f"not {planned}. Another run may end with another network.",
    )


def no_time(least: TrainingPlan, needed: float) -> SearchEnd:
    """Say that the minutes that were given are not enough for the smallest training."""
    return SearchEnd(
        reason="minutes",
        text=f"There was not enough time left (train.minutes) for {least}, which would have taken "
        f"about {needed:.1f} minutes.",
    )


def late(plan: TrainingPlan) -> SearchEnd:
    """Say that the minutes that were given were over before the network was judged."""
    return SearchEnd(reason="minutes", text=f"The time ran out before {plan} was evaluated.")


def minutes_decided(given: str, most: TrainingPlan) -> SearchEnd:
    """Say that with more minutes, there would have been more views or epochs."""
    return SearchEnd(
        reason="minutes",
        text=f"The minutes that were given ({given}) have decided what was trained. With enough of "
        f"them, it would have been {most}; another run may end with another network.",
    )


def in_minutes(minutes: float) -> str:
    """Return a duration for people."""
    digits = 0 if minutes >= 100 else 1 if minutes >= 0.1 else 3
    text = f"{round(minutes, digits):.15g}"
    return f"{text} minute" if text == "1" else f"{text} minutes"


def with_search(trained: Trained, tried: list[Tried], ended: SearchEnd) -> Trained:
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
