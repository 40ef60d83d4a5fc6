"""How the search trains layers of the backbone: which layers, for how long, and at what cost."""

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
_FEWEST_EPOCHS: Final = 2  # fewer views rather than fewer epochs than this


@dataclass(frozen=True)
class TrainingPlan:
    """How layers below the head are trained.

    Attributes:
        cut: Layer above which all layers train.
        share: Share of the network's operations in the layers that are trained.
        epochs: Number of epochs.
        views: Number of augmented views of each training image.
    """

    cut: str
    share: float
    epochs: int
    views: int

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
            for epochs in range(self.smallest().epochs, self.epochs + 1)
        )
        allowed = [plan for plan in smaller if plan.passes() <= passes]
        # Of as many steps, those with more views, which differ.
        return max(allowed, key=lambda plan: (plan.steps, plan.views), default=None)

    def smallest(self) -> TrainingPlan:
        """Return the plan with the fewest views and epochs that `within` allows."""
        return replace(self, views=0, epochs=min(self.epochs, _FEWEST_EPOCHS))

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
