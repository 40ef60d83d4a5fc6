"""Candidates of the search: ways to fine-tune the backbone, with their expected gain and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from imgpipe.models.backbones import layer_graph
from imgpipe.models.settings import ModelSettings

if TYPE_CHECKING:
    import keras

#: A step of training costs this many forward passes of the layers that train. On a processor with
#: bfloat16, 3.7 to 4.2 were measured, with the layers of `training/fast_layers`.
_PASSES_A_STEP: Final = 4.0
_FEWEST_EPOCHS: Final = 2  # fewer views rather than fewer epochs than this
_STRIDE: Final = 32  # pixels of the image for each position of the feature map
#: Why a network was not trained to its end, by the word in its row.
FAILURES: Final = {
    "diverged": "diverged",
    "memory": "memory ran out",
    "disk": "the disk was full",
}


class Idea(NamedTuple):
    """A way of training in relation to the settings of the run."""

    size: float  # side of the images, as a share of that of the settings
    gain: float  # share of the mistakes that the way is expected to correct


#: What is tried: the image size of the run, and for small images first one at which they lose
#: nothing, which takes a third of the time. The gains only order the ways. That of the first lies
#: between the shares of the mistakes that it corrected with a head on the last feature map alone:
#: 90 % on sign digits and 23 % on flowers at 160 pixels.
IDEAS: Final = (Idea(size=1, gain=0.5), Idea(size=4 / 7, gain=0.4))

#: A way that is expected to correct fewer validation images than this is not tried, because its
#: gain could not be distinguished from noise.
FEWEST_CORRECTED: Final = 2.0


@dataclass(frozen=True)
class Way:
    """One way of training layers below the head.

    Attributes:
        cut: Layer above which all layers train.
        image_size: Side in pixels that the network sees.
        learning_rate: The highest rate of the optimizer.
        epochs: Number of epochs.
        views: Number of augmented views of each training image.
        share: Share of the network's operations in the layers that are trained.
        gain: Share of the mistakes that the way is expected to correct.
    """

    cut: str
    image_size: int
    learning_rate: float
    epochs: int
    views: int
    share: float
    gain: float

    def settings(self, given: ModelSettings) -> ModelSettings:
        """Return the settings of a run with this way of fine-tuning alone."""
        stage = replace(
            given.fine_tune,
            mode="on",
            cut=self.cut,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            patience=self.epochs,
        )
        views = replace(given.views, count=self.views)
        return replace(given, image_size=self.image_size, fine_tune=stage, views=views)

    def passes(self) -> float:
        """Estimate the cost for each image, in forward passes of an image of 1 x 1 pixels."""
        passes = (self.views + 1) * (1 + _PASSES_A_STEP * self.share * self.epochs)
        return passes * self.image_size**2

    def within(self, passes: float) -> Way | None:
        """Return the way with as many views and epochs as a cost allows; None if it allows none."""
        fewest = self.smallest().epochs
        smaller = (
            replace(self, views=views, epochs=epochs)
            for views in range(self.views, -1, -1)
            for epochs in range(self.epochs, fewest - 1, -1)
        )
        return next((way for way in smaller if way.passes() <= passes), None)

    def smallest(self) -> Way:
        """Return the way with the fewest views and epochs that `within` allows."""
        return replace(self, views=0, epochs=min(self.epochs, _FEWEST_EPOCHS))

    def __str__(self) -> str:
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        views = f"{self.views + 1} views" if self.views else "1 view"
        return (
            f"layers above {self.cut}, {self.image_size} pixels, rate {self.learning_rate:g}, "
            f"{epochs} of {views}"
        )


def ways(settings: ModelSettings, network: keras.Model, side: int = 0) -> list[Way]:
    """Return the ways to try, in the order of their expected gain for their cost.

    What the settings fix is not varied: the cut and the size of the images. `side` is the usual
    side of the images in pixels; 0 when it is not known.
    """
    stage = settings.fine_tune
    if not stage.cut and not layer_graph.map_points(network):
        return []  # there is no layer above which others could be trained
    cut = stage.cut or layer_graph.usual_cut(network)
    share = layer_graph.share_above(network, cut)
    found = []
    for size, gain in IDEAS:
        pixels = settings.size if size == 1 else _rounded(settings.size * size)
        if size == 1 or (settings.resizable and 0 < side <= pixels < settings.size):
            epochs, views = stage.epochs, settings.views.count
            found.append(Way(cut, pixels, stage.learning_rate, epochs, views, share, gain))
    return sorted(found, key=lambda way: -way.gain / way.passes())


def _rounded(side: float) -> int:
    """Return the nearest multiple of the stride of most networks, at which no pixel is lost."""
    return max(1, round(side / _STRIDE)) * _STRIDE if side > _STRIDE else round(side)


def line_of(row: Mapping[str, Any]) -> str:
    """Describe in one line what was tried, what it gained, and how long it took.

    Args:
        row: A row of the search, with the keys of `pipeline.records.run.Tried`.
    """
    seconds, kept = f"{row['seconds']:.0f} s", "kept" if row["kept"] else "not kept"
    if row["accuracy"] is None:
        return f"{row['what']}: {FAILURES[row['failure']]}, {seconds}, {kept}"
    where = "cross-validation" if row["judged_by"] == "folds" else "validation"
    accuracy = f"{where} accuracy {row['accuracy']:.3f}"
    if row["gain"] is None:
        return f"{row['what']}: {accuracy}, {seconds}"
    gain = f"{row['gain']:+.3f}, standard error {row['standard_error']:.3f}"
    return f"{row['what']}: {accuracy} ({gain}), {seconds}, {kept}"
