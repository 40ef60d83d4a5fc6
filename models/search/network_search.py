"""Searches for a network that is better than the solved head, within a budget of time.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too, in one way after the other, in the order of the expected gain for the cost, and each
starting from the best network so far. The result of a way is kept only if it is better on the
validation split by more than noise. The test split is never used. The time determines only when the
search ends, and how many views and epochs a way can have.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from imgpipe.models import progress, shortages
from imgpipe.models.features.bank import read_facts
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH
from imgpipe.models.head.calibration import calibrated_losses
from imgpipe.models.head.solved_head import Groups, Judgement, standard_error
from imgpipe.models.search import tried
from imgpipe.models.search.ways import CONTINUED_GAIN, FEWEST_CORRECTED, Way, ways
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import stages
from imgpipe.models.training.fresh_activations import (
    LabelledImages,
    OutOfTime,
    fresh_activations,
    seconds_a_view,
    usual_side,
)
from imgpipe.models.training.stages import Inputs, Trained
from imgpipe.models.training.training_loop import Diverged, fit

if TYPE_CHECKING:
    import keras

#: If no budget is given, the search may take as long as this number of forward passes of all
#: training images, within these limits.
_PASSES: Final = 60
_MOST_MINUTES: Final = 15.0
_LEAST_MINUTES: Final = 1.0
_FREE_SHARE: Final = 0.25  # share of the space for temporary files that activations may use
#: The search ends after this number of consecutive ways that did not improve the network.
_MOST_FAILURES: Final = 2
#: Largest loss of one image, so that a single image does not decide the comparison.
_MOST_LOSS: Final = -math.log(1e-12)
#: What to do if the head makes too few mistakes on validation for a gain to be seen there.
_MORE_IMAGES: Final = "A larger validation split (split.validation) lets the search run."


def train(inputs: Inputs, views: int | None = None) -> Trained:
    """Trains in stages, and searches if the settings ask for it and the head falls short.

    Args:
        inputs: Inputs of the training.
        views: Number of augmented views for the networks of the search; None for that of the
            settings. A number that was tuned for the head says nothing about other networks.

    Returns:
        The best network, with the search in its history.

    Raises:
        DataRefused: A split has no labelled image.
    """
    trained = stages.train(inputs)
    accuracy = (trained.history.get("solution") or {}).get("accuracy")
    if not inputs.settings.searches or accuracy is None:
        return trained
    right = trained.right
    if accuracy >= ENOUGH:
        ended = (
            f"Nothing else was tried, because the head alone reaches {accuracy:.3f} in "
            f"cross-validation over the training images, and {right.mean():.3f} on the validation "
            "split."
        )
        return _with_history(trained, [_row_of_head(trained)], "enough", ended)
    if right.all():
        ended = (
            f"Nothing else was tried, because the head makes no mistake on the {right.size:,} "
            f"validation images, so that no gain could be seen there. {_MORE_IMAGES}"
        )
        return _with_history(trained, [_row_of_head(trained)], "few_mistakes", ended)
    if views is not None:
        settings = replace(inputs.settings, views=replace(inputs.settings.views, count=views))
        inputs = replace(inputs, settings=settings)
    with progress.stoppable():
        return _Search(inputs, trained).run()


def _row_of_head(head: Trained) -> dict[str, Any]:
    return {
        "what": "head on frozen features",
        "accuracy": float(head.right.mean()),
        "gain": None,
        "standard_error": None,
        "seconds": round(float(head.history["seconds"]), 1),
        "kept": True,
        "failure": None,
    }


def _with_history(trained: Trained, rows: list[dict[str, Any]], reason: str, text: str) -> Trained:
    """Return the network with the list of ways that were tried, and why the search ended.

    The reason is "enough", "few_mistakes", "all", "no_gain", "minutes", "space" or "interrupted".
    """
    ended = {"reason": reason, "text": text}
    return replace(trained, history={**trained.history, "search": rows, "search_ended": ended})


class _Ended(Exception):
    """The search has ended."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason, self.text = reason, text


class _Search:
    """One search: the best network so far, the ways that were tried, and the remaining time."""

    def __init__(self, inputs: Inputs, head: Trained) -> None:
        self._inputs, self._head = inputs, head
        self._best, self._rows = head, [_row_of_head(head)]
        self._training = LabelledImages.of(inputs.train_files)
        self._validation = LabelledImages.of(inputs.validation_files)
        self._until = float("inf")
        self._stopped = False
        self._pass_seconds = 0.0  # of a forward pass of all images of 1 x 1 pixels
        self._deepest: Way | None = None  # the way that was kept and trained most layers
        self._failures = 0  # ways in a row that were not kept
        self._highest = math.inf  # rates from this one on diverge
        self._skipped: _Ended | None = None  # why the first of the ways was not tried

    def run(self) -> Trained:
        """Try one way after the other and return the best network with its history."""
        settings = self._inputs.settings
        network = backbone_of(settings)
        ended = _Ended("all", "Everything that was worth a try was tried.")
        try:
            left = ways(settings, network, usual_side(self._inputs.train_files))
            any_way = bool(left)
            while left:
                left = self._step(left[0], left[1:])
            if any_way and len(self._rows) == 1:  # that of the head
                mistakes = int((~self._head.right).sum())
                ended = _Ended(
                    "few_mistakes",
                    f"Nothing else was tried, because the head is wrong on only {mistakes:,} of "
                    f"{self._head.right.size:,} validation images, so that the gain of another "
                    f"network could not be distinguished from chance. {_MORE_IMAGES}",
                )
            ended = self._skipped or ended
        except _Ended as caught:
            ended = caught
        self._over()  # takes a Ctrl-C after the last one of its calls, which would end the run
        return _with_history(self._best, self._rows, ended.reason, ended.text)

    def _step(self, way: Way, left: list[Way]) -> list[Way]:
        """Try a way as far as time and space allow, if it is worth it.

        Returns:
            The ways that come after it, in their order: if the network was not better, those with
            a smaller rate first. A way that helped with fewer epochs than it should have had comes
            again, in case that time is left: the plan is made with an estimate.

        Raises:
            _Ended: The search ends here.
        """
        mistakes = float((~self._best.right).sum())
        if way.learning_rate >= self._highest or mistakes * way.gain < FEWEST_CORRECTED:
            return left
        # Layers that a kept way has trained must train again: the activations at a higher cut would
        # come from the pretrained layers below it.
        if self._deepest is not None and self._deepest.share > way.share:
            way = replace(way, cut=self._deepest.cut, share=self._deepest.share)
        extractor = self._extractor(way)
        if not self._pass_seconds:  # the first way: the budget is in passes, so one is measured
            a_view = seconds_a_view(self._inputs.train_files, extractor)
            # The time of a convolution grows with the number of pixels.
            self._begin(len(self._training.labels) * a_view / way.image_size**2)
        affordable = self._affordable(way, extractor)
        if affordable is None:
            return left
        try:
            kept = self._try(affordable, extractor)
        except OutOfTime:
            if self._stopped:
                raise _Ended("interrupted", "The search was ended by Ctrl-C.") from None
            raise _Ended(
                "minutes", f"The time ran out before {affordable} was evaluated."
            ) from None
        self._failures = 0 if kept else self._failures + 1
        if kept and affordable.epochs < way.epochs:
            left = [replace(way, gain=CONTINUED_GAIN), *left]
        if self._stopped:
            raise _Ended("interrupted", "The search was ended by Ctrl-C.")
        if self._best.right.mean() >= ENOUGH:
            raise _Ended("enough", f"The best network reaches {ENOUGH:g} or more on validation.")
        if self._failures >= _MOST_FAILURES:
            untrained = all(row["failure"] for row in self._rows[-_MOST_FAILURES:])
            why = "could not be trained" if untrained else "were not better by more than noise"
            raise _Ended("no_gain", f"The last {_MOST_FAILURES} networks {why}.")
        # After a network that was not better, smaller rates come first. The rest keeps its order.
        return left if kept else sorted(left, key=lambda w: w.learning_rate >= way.learning_rate)

    def _affordable(self, way: Way, extractor: FeatureExtractor) -> Way | None:
        """Return the way with the views and epochs that space and time allow, if they allow any.

        Otherwise the reason is kept, and a cheaper way may still be tried.
        """
        passes = (self._until - time.monotonic()) / self._pass_seconds
        if way.within(passes) is None:
            least = way.smallest()
            minutes = least.passes() * self._pass_seconds / 60
            self._skipped = self._skipped or _Ended(
                "minutes",
                f"There was not enough time left (train.minutes) for {least}, which would have "
                f"taken about {minutes:.1f} minutes.",
            )
            return None
        views = self._most_views(extractor)  # builds the network
        if views < 0:
            self._skipped = self._skipped or _Ended(
                "space",
                "The activations of the training images would take more than a quarter of the "
                f"free space in {tempfile.gettempdir()}.",
            )
            return None
        return replace(way, views=min(views, way.views)).within(passes)

    def _most_views(self, extractor: FeatureExtractor) -> int:
        """Return how many augmented views have activations that fit into the space.

        The result is -1 if not even those of the images themselves fit.
        """
        free = _FREE_SHARE * shutil.disk_usage(tempfile.gettempdir()).free
        images = len(self._training.labels)
        bytes_of_a_view = 2 * math.prod(extractor.activation_shape) * images  # float16
        return int(free // max(bytes_of_a_view, 1)) - 1

    def _over(self) -> bool:
        """Return whether the time is over, or a person asked for the end of the search."""
        self._stopped = self._stopped or progress.stopped()
        return self._stopped or time.monotonic() >= self._until

    def _begin(self, pass_seconds: float) -> None:
        """Set and announce the budget.

        Args:
            pass_seconds: Seconds of a forward pass of all training images of 1 x 1 pixels.
        """
        self._pass_seconds = pass_seconds
        minutes = self._inputs.settings.minutes
        if minutes is None:
            minutes = _PASSES * pass_seconds * self._inputs.settings.size**2 / 60
            minutes = min(max(minutes, _LEAST_MINUTES), _MOST_MINUTES)
        self._until = time.monotonic() + 60 * minutes
        given = f"{round(minutes, 1 if minutes >= 0.1 else 3):g}"
        progress.say(
            f"The head alone reaches {self._head.history['solution']['accuracy']:.3f} in "
            "cross-validation over the training images. Networks that may be better are tried for "
            f"at most {given} {'minute' if given == '1' else 'minutes'} (--minutes)."
        )

    def _extractor(self, way: Way) -> FeatureExtractor:
        settings = way.settings(self._inputs.settings)
        return FeatureExtractor(
            settings.backbone_spec(),
            settings.size,
            read_facts(self._inputs.bank_uri).precision,
            settings.views,
            settings.pooling,
            way.cut,
        )

    def _try(self, way: Way, extractor: FeatureExtractor) -> bool:
        """Try a way, and keep the network if it is better by more than noise; return if so."""
        started = time.monotonic()
        try:
            fitted = self._fitted(way, extractor)
        except Diverged:
            self._highest = way.learning_rate
            return self._fail(way, "diverged", started)
        except Exception as caught:
            if not (lacking := shortages.lacking(caught)):
                raise
            return self._fail(way, lacking, started)  # the best network so far needs no more of it
        seconds = time.monotonic() - started
        self._learn_cost(way, fitted, seconds)
        groups = self._head.groups
        before, after = _judgement(self._best, groups), _judgement(fitted, groups)
        # Both networks answer the same images, so the error is that of paired differences. The loss
        # may decide where the accuracies do not, but never against them.
        gains = after.right.astype(np.float64) - before.right
        gain, error = float(gains.mean()), standard_error(gains, groups)
        kept = gain >= 0 and (gain > 2 * error or after.better_than(before))
        accuracy = float(after.right.mean())
        done = replace(way, epochs=len(fitted.history["epochs"]))
        self._tell(
            {
                "what": str(done),
                "accuracy": accuracy,
                "gain": gain,
                "standard_error": error,
                "seconds": round(seconds, 1),
                "kept": kept,
                "failure": None,
            }
        )
        if kept:
            tuned = {
                **fitted.history,
                "helped": True,
                "shipped": True,
                "head_accuracy": self._rows[0]["accuracy"],
                "accuracy": accuracy,
            }
            trained = fitted.history["trained"]
            history = {**self._head.history, "fine_tune": tuned, "trained": trained}
            self._best = replace(fitted, history=history, image_size=way.image_size)
            self._deepest = way
        return kept

    def _learn_cost(self, way: Way, fitted: Trained, seconds: float) -> None:
        """Replace the cost of a forward pass by that of a way, which includes everything."""
        if fitted.history["stopped"] == "epochs":  # all of them were trained
            self._pass_seconds = seconds / way.passes()

    def _fail(self, way: Way, failure: str, started: float) -> Literal[False]:
        """Record a way that was not trained to its end; `failure` is a key of `tried.FAILURES`."""
        self._tell(
            {
                "what": str(way),
                "accuracy": None,
                "gain": None,
                "standard_error": None,
                "seconds": round(time.monotonic() - started, 1),
                "kept": False,
                "failure": failure,
            }
        )
        return False

    def _tell(self, row: dict[str, Any]) -> None:
        """Record the result of a way and display it."""
        self._rows.append(row)
        progress.say(tried.line(row))

    def _fitted(self, way: Way, extractor: FeatureExtractor) -> Trained:
        settings = way.settings(self._inputs.settings).second_stage()
        log_dir = self._inputs.log_dir
        with (
            fresh_activations(self._training, extractor, way.views, self._over) as training,
            fresh_activations(self._validation, extractor, 0, self._over) as validation,
        ):
            found = fit(
                lambda: stages.above_cut(
                    self._inputs.classes, settings, way.cut, self._best.layers
                ),
                training,
                validation,
                self._inputs.classes,
                settings,
                log_dir and log_dir / f"search-{len(self._rows)}",
                over=self._over,
                judge=stages.calibrated_loss_on(validation),
            )
            return stages.judged(found, validation, f"layers above {way.cut}")


def backbone_of(settings: ModelSettings) -> keras.Model:
    """Build the backbone, from pixels to the feature map.

    Args:
        settings: Settings that name the backbone, its weights and the image size.
    """
    import keras

    pixels = keras.Input((settings.size, settings.size, 3), dtype="float32", name="pixels")
    return keras.Model(pixels, settings.backbone_spec().build(pixels))


def _judgement(trained: Trained, groups: Groups | None) -> Judgement:
    """Return the result of a network on the validation images, with the best temperature."""
    # Each network is calibrated before it is served, so over-confidence must not decide here.
    losses = np.minimum(calibrated_losses(trained.logits, trained.labels), _MOST_LOSS)
    return Judgement(losses.astype(np.float32), trained.right, groups)
