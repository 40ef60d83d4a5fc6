"""The way in which the search fine-tunes the backbone, with its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models.backbones import layer_graph
from imgpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    import keras

#: A step of training costs this many forward passes of the layers that train. On a processor with
#: bfloat16, 3.7 to 4.2 were measured, with the layers of `training/fast_layers`.
_PASSES_A_STEP: Final = 4.0
_FEWEST_EPOCHS: Final = 2  # fewer views rather than fewer epochs than this
#: Why a network was not trained to its end, by the word in its row.
FAILURES: Final = {
    "diverged": "diverged",
    "memory": "memory ran out",
    "disk": "the disk was full",
}
#: Names of the accuracies by what judges, as the rows hold it.
JUDGES: Final = {
    "validation": "validation accuracy",
    "held_out": "held-out accuracy",
    "folds": "cross-validation accuracy",
}


@dataclass(frozen=True)
class Way:
    """One way of training layers below the head.

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
        """Return the settings of a run with this way of fine-tuning alone."""
        epochs = self.epochs
        stage = replace(given.fine_tune, mode="on", cut=self.cut, epochs=epochs, patience=epochs)
        views = replace(given.views, count=self.views)
        return replace(given, fine_tune=stage, views=views)

    def passes(self) -> float:
        """Estimate the cost for each image, in forward passes."""
        return (self.views + 1) * (1 + _PASSES_A_STEP * self.share * self.epochs)

    def within(self, passes: float) -> Way | None:
        """Return the way with as many steps as a cost allows; None if it allows none."""
        smaller = (
            replace(self, views=views, epochs=epochs)
            for views in range(self.views + 1)
            for epochs in range(self.smallest().epochs, self.epochs + 1)
        )
        allowed = (way for way in smaller if way.passes() <= passes)
        # Of as many steps, those with more views, which differ.
        return max(allowed, key=lambda way: ((way.views + 1) * way.epochs, way.views), default=None)

    def smallest(self) -> Way:
        """Return the way with the fewest views and epochs that `within` allows."""
        return replace(self, views=0, epochs=min(self.epochs, _FEWEST_EPOCHS))

    def __str__(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        views = f"{self.views + 1} views" if self.views else "1 view"
        return f"layers above {self.cut}, {epochs} of {views}"


def way_of(settings: ModelSettings, network: keras.Model) -> Way | None:
    """Return the way for some settings; None if there is no layer above which others can train."""
    stage = settings.fine_tune
    if not stage.cut and not layer_graph.map_points(network):
        return None
    cut = stage.cut or layer_graph.usual_cut(network)
    share = layer_graph.share_above(network, cut)
    return Way(cut, share, stage.epochs, settings.views.count)


def line_of(row: Mapping[str, Any]) -> str:
    """Describe in one line what was tried, what it gained, and how long it took.

    Args:
        row: A row of the search, with the keys of `pipeline.records.run_summary.Tried`.
    """
    seconds, kept = f"{row['seconds']:.0f} s", "kept" if row["kept"] else "not kept"
    if row["accuracy"] is None:
        return f"{row['what']}: {FAILURES[row['failure']]}, {seconds}, {kept}"
    accuracy = f"{JUDGES[row['judged_by']]} {row['accuracy']:.3f}"
    if row["gain"] is None:
        return f"{row['what']}: {accuracy}, {seconds}"
    gain = f"{row['gain']:+.3f}, standard error {row['standard_error']:.3f}"
    return f"{row['what']}: {accuracy} ({gain}), {seconds}, {kept}"
