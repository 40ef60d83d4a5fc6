"""How the search trains layers of the backbone: which layers, for how long, and at what cost.

What a run without `--minutes` trains follows from the images, the size and the network alone, by
the cost on a machine of reference: a busy or slow machine takes longer for the same training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from imgpipe.models.backbones import layer_graph
from imgpipe.models.settings.model import ModelSettings

if TYPE_CHECKING:
    import keras

#: A step of training costs this many forward passes of the layers that train, as measured: see
#: docs/benchmarks.md, "Constants of the code".
_PASSES_A_STEP: Final = 4.0

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

    def settings(self, given: ModelSettings) -> ModelSettings:
        """Return the settings of a run that trains by this plan alone."""
        epochs = self.epochs
        stage = replace(given.fine_tune, mode="on", cut=self.cut, epochs=epochs, patience=epochs)
        views = replace(given.views, count=self.views)
        return replace(given, fine_tune=stage, views=views)

    @property
    def steps(self) -> int:
        """Steps of training for each image: every view in every epoch."""
        return (self.views + 1) * self.epochs

    def passes(self) -> float:
        """Estimate the cost for each image, in forward passes."""
        return (self.views + 1) * (1 + _PASSES_A_STEP * self.share * self.epochs)

    def within(self, passes: float) -> TrainingPlan | None:
        """Return the plan with as many steps as a cost allows; None if it allows none."""
        smaller = (
            replace(self, views=views, epochs=epochs)
            for views in range(self.views + 1)
            for epochs in range(1, self.epochs + 1)
        )
        allowed = [plan for plan in smaller if plan.passes() <= passes]
        # Of as many steps, those with more views, which differ.
        return max(allowed, key=lambda plan: (plan.steps, plan.views), default=None)

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


def training_plan(settings: ModelSettings, network: keras.Model) -> TrainingPlan | None:
    """Return the plan of some settings; None if there is no layer above which others can train."""
    stage = settings.fine_tune
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
    multiplications = layer_graph.multiplications(network) or _USUAL_A_PIXEL * side**2
    return multiplications / _MULTIPLICATIONS_A_SECOND
