"""What a search trains, what it costs, and why it ends.

What a run trains follows from the images, the size, the network and the minutes that a person
gives, by the cost on a machine of reference: a busy or slow machine takes longer for the same
training.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones import layer_graph
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training.history import NetworkHistory, Reproducible, Tried
from imgpipe.models.training.stages import Trained

if TYPE_CHECKING:
    import keras


#: A step of training costs this many forward passes of the layers that train, as measured: see
#: docs/benchmarks.md, "Constants of the code".
_PASSES_A_STEP: Final = 4.0
_ROUNDING: Final = 1e-9  # so that a plan is within its own cost

#: Seconds of reference for each image of train and validation, and the fewest and the most minutes
#: of a search. What more of them gain is in docs/benchmarks.md, "Where the search pays".
_SECONDS_AN_IMAGE: Final = 0.1
_FEWEST_MINUTES: Final = 3.0
_MOST_MINUTES: Final = 15.0
#: Multiplications in a second of reference: 248 images of 224 pixels through EfficientNet-Lite0,
#: which has 384 million of them. How well the time follows the multiplications is in
#: docs/benchmarks.md, "Constants of the code".
_MULTIPLICATIONS_A_SECOND: Final = 248 * 384e6
#: Multiplications a pixel of EfficientNet-Lite0, for networks whose layers are not known: those of
#: a class of its own.
_USUAL_A_PIXEL: Final = 384e6 / 224**2


@dataclass(frozen=True)
class TrainingPlan:
    """How layers below the head are trained."""

    cut: str  # layer above which all layers train
    share: float  # of the network's operations in the layers that are trained
    epochs: int
    views: int  # augmented ones of each training image

    def settings(self, given: Settings) -> Settings:
        """Return the settings of a run that trains by this plan alone."""
        stage = {
            "mode": "on",
            "cut": self.cut,
            "epochs": self.epochs,
            "patience": self.epochs,
        }
        course = given.course
        fine_tune = course.fine_tune.model_copy(update=stage)
        views = course.views.model_copy(update={"count": self.views})
        return given.but(course={"fine_tune": fine_tune, "views": views})

    @property
    def steps(self) -> int:
        """Steps of training for each image: every view in every epoch."""
        return (self.views + 1) * self.epochs

    def passes(self) -> float:
        """Estimate the cost for each image, in forward passes."""
        return (self.views + 1) * (1 + _PASSES_A_STEP * self.share * self.epochs)

    def within(self, passes: float) -> TrainingPlan | None:
        """Return the plan with as many steps as a cost allows; None if it allows none."""
        plans = []
        for views in range(self.views + 1):
            affordable = (passes / (views + 1) - 1) / (_PASSES_A_STEP * self.share)
            epochs = min(self.epochs, int(affordable + _ROUNDING))
            if epochs > 0:
                plans.append(replace(self, views=views, epochs=epochs))
        # Of as many steps, those with more views, which differ.
        return max(plans, key=lambda plan: (plan.steps, plan.views), default=None)

    def smallest(self) -> TrainingPlan:
        """Return the plan with the fewest views and epochs that `within` allows."""
        return replace(self, views=0, epochs=1)

    def trial(self) -> TrainingPlan:
        """Return a plan of one epoch for a third of the cost, or the smallest one."""
        return replace(self, epochs=1).within(self.passes() / 3) or self.smallest()

    def __str__(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        views = f"{self.views + 1} views" if self.views else "1 view"
        return f"layers above {self.cut}, {epochs} of {views}"


def training_plan(settings: Settings, network: keras.Model) -> TrainingPlan | None:
    """Return the plan of some settings; None if there is no layer above which others can train."""
    stage = settings.course.fine_tune
    if not stage.cut and not layer_graph.map_points(network):
        return None
    cut = stage.cut or layer_graph.usual_cut(network)
    share = layer_graph.share_above(network, cut)
    return TrainingPlan(cut, share, stage.epochs, settings.views.count)


def nominal_minutes(images: int) -> float:
    """Return for how many minutes of reference networks are trained if no time is given.

    The images are the distinct ones of train and validation.
    """
    minutes = images * _SECONDS_AN_IMAGE / 60
    return min(max(minutes, _FEWEST_MINUTES), _MOST_MINUTES)


def nominal_seconds_a_view(network: keras.Model, side: int) -> float:
    """Return the seconds of reference of a forward pass of one view.

    The network is the backbone, from pixels to its feature map, for images of this side in pixels.
    """
    multiplications = layer_graph.multiplications(network.layers) or _USUAL_A_PIXEL * side**2
    return multiplications / _MULTIPLICATIONS_A_SECOND


def head_is_enough(in_folds: float, head: Trained) -> Finding:
    """Say that the head is good enough."""
    images = "train and validation" if head.by_folds else "the training images"
    text = (
        f"Nothing else was tried, because the head reaches {in_folds:.3f} in "
        f"cross-validation over {images}"
    )
    on_validation = head.answers.accuracy
    if not head.by_folds and on_validation is not None:
        text += f", and {on_validation:.3f} on the validation split"
    return make_finding("enough", text)


def few_images(images: int, most: int) -> Finding:
    """Say that there are few images to learn from, at most `most`, and nobody has given minutes."""
    return make_finding(
        "few_images",
        f"There are {images:,} images to learn from. Up to {most:,}, only the head is "
        "trained; --minutes 15 tries a network, too",
    )


def few_mistakes(in_folds: float, held_out: int, least: int) -> Finding:
    """Say that fewer than `least` mistakes of the head are expected on the images that judge."""
    return make_finding(
        "few_mistakes",
        f"Nothing else was tried: the head reaches {in_folds:.3f} in cross-validation, and a "
        f"head of this accuracy is wrong on fewer than {least} of {held_out:,} held-out images, so "
        "that the gain of another network could not be distinguished from chance. More images "
        "would let the search run",
    )


def costly(least: TrainingPlan, needed: float, given: bool) -> Finding:
    """Say that the smallest training takes longer than a run spends on it, or the minutes given."""
    return make_finding(
        "minutes" if given else "cost",
        f"Nothing else was tried, because even {least} would take about {in_minutes(needed)} on "
        "two ordinary cores, which is more than a run spends on that; --minutes sets another limit",
    )


def no_space(plan: TrainingPlan) -> Finding:
    """Say that there is no space for the activations of the images."""
    folder = tempfile.gettempdir()
    return make_finding(
        "space",
        f"Nothing else was tried, because the activations for {plan} would take more than a "
        f"quarter of the free space in {folder}. Free some, or let TMPDIR name another folder",
    )


def no_gain() -> Finding:
    """Say that a part of the training has shown no gain."""
    return make_finding(
        "no_gain",
        "The training ended after a part of the work, which showed no gain that the rest would "
        "make certain",
    )


def whole_plan(plan: TrainingPlan, most: TrainingPlan, given: float | None) -> Finding:
    """Say that all of a plan was trained.

    `most` is the plan with all views and epochs of the settings; minutes are None if nobody has
    given any.
    """
    if given is None or plan == most:
        return make_finding("all", "")
    return make_finding(
        "minutes",
        f"The minutes that were given ({in_minutes(given)}) have decided what was trained. With "
        f"enough of them, it would have been {most}",
    )


def in_minutes(minutes: float) -> str:
    """Return a duration for people."""
    digits = 0 if minutes >= 100 else 1 if minutes >= 0.1 else 3
    text = f"{round(minutes, digits):.15g}"
    return f"{text} minute" if text == "1" else f"{text} minutes"


def with_search(trained: Trained, tried: list[Tried], ended: Finding) -> Trained:
    """Return the network with the list of what was tried, and why the search ended."""
    lacking = any(row["failure"] in ("memory", "disk") for row in tried)
    if lacking or ended["reason"] == "space":
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
