"""Searches for a network that is better than the solved head, within a budget of time.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too, in one way after the other, in the order of the expected gain for the cost, and each
starting from the best network so far. The result of a way is kept only if it is better on held-out
images by more than noise. These are the validation split or, where it has few images, the folds of
train and validation; see `parts`. The test split is never used. The time determines only when the
search ends, and how many views and epochs a way can have.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np

from imgpipe.models import progress, shortages
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, judge_networks
from imgpipe.models.head.solved_head import Judgement, standard_error
from imgpipe.models.search import parts, tried
from imgpipe.models.search.budget import Budget
from imgpipe.models.search.parts import Part, judgement
from imgpipe.models.search.ways import CONTINUED_GAIN, FEWEST_CORRECTED, Way, backbone_of, ways
from imgpipe.models.training import stages
from imgpipe.models.training.fresh_activations import (
    OutOfTime,
    most_views,
    seconds_a_view,
    usual_side,
)
from imgpipe.models.training.stages import Inputs, Trained
from imgpipe.models.training.training_loop import Diverged

#: The search ends after this number of consecutive ways that did not improve the network.
_MOST_FAILURES: Final = 2
#: Share of the remaining time for which a way is planned where folds judge. If the time ends before
#: all folds are trained, nothing has been learned from any of them.
_PLANNED_SHARE: Final = 0.9


def train(inputs: Inputs) -> Trained:
    """Trains in stages, and searches if the settings ask for it and the head falls short.

    Args:
        inputs: Inputs of the training.

    Returns:
        The best network, with the search in its history.

    Raises:
        DataRefused: A split has no labelled image.
    """
    trained = stages.train(inputs)
    accuracy = (trained.history.get("solution") or {}).get("accuracy")
    if not inputs.settings.searches or accuracy is None:
        return trained
    if accuracy >= ENOUGH:
        ended = (
            f"Nothing else was tried, because the head alone reaches {accuracy:.3f} in "
            f"cross-validation over the training images, and {trained.right.mean():.3f} on the "
            "validation split."
        )
        row = _row_of_head(trained, "validation", float(trained.right.mean()))
        return _with_history(trained, [row], "enough", ended)
    splits = parts.splits(inputs, trained)
    few = judge_networks(len(splits.training.labels), len(splits.held_out.labels))
    folds = parts.folds(inputs) if few else []
    with progress.stoppable():
        return _Search(inputs, splits, folds).run()


def _row_of_head(head: Trained, judged_by: str, accuracy: float) -> dict[str, Any]:
    return {
        "what": "head on frozen features",
        "judged_by": judged_by,
        "accuracy": accuracy,
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


class _TooSlow(Exception):
    """The first folds have shown that the others do not fit into the time."""


class _Search:
    """One search: the best network so far, the ways that were tried, and the remaining time."""

    def __init__(self, inputs: Inputs, splits: Part, folds: list[Part]) -> None:
        self._inputs, self._head = inputs, splits.best
        self._splits, self._folds = splits, folds
        self._judged_by = "folds" if folds else "validation"
        self._rows = [_row_of_head(self._head, self._judged_by, float(self._best().right.mean()))]
        images = self._training_images([*self._folds, self._splits])
        self._budget = Budget(inputs.settings, images)
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
                where, more = "validation images", "A larger validation split (split.validation)"
                if self._folds:
                    where, more = "images of train and validation", "More images"
                ended = _Ended(
                    "few_mistakes",
                    f"Nothing else was tried, because the head is wrong on only "
                    f"{self._mistakes():,} of {self._answerable():,} {where}, so that the gain of "
                    f"another network could not be distinguished from chance. {more} would let the "
                    "search run.",
                )
            ended = self._skipped or ended
        except _Ended as caught:
            ended = caught
        self._budget.over()  # takes a Ctrl-C after the last of its calls, which would end the run
        best = self._splits.best
        if self._folds:  # which have more answers than the validation split
            pairs = [(part, part.best) for part in self._folds]
            best = replace(best, by_folds=parts.answers(pairs))
        return _with_history(best, self._rows, ended.reason, ended.text)

    def _judging(self) -> list[Part]:
        """Return the parts whose held-out images judge the networks."""
        return self._folds or [self._splits]

    def _best(self) -> Judgement:
        """Return the result of the best networks so far."""
        return judgement([(part, part.best) for part in self._judging()])

    def _mistakes(self) -> int:
        """Return how many images the best networks could answer and do not."""
        return sum(int((part.known & ~part.best.right).sum()) for part in self._judging())

    def _answerable(self) -> int:
        """Return how many images there are of classes that the networks could learn."""
        return sum(int(part.known.sum()) for part in self._judging())

    def _step(self, way: Way, left: list[Way]) -> list[Way]:
        """Try a way as far as time and space allow, if it is worth it.

        Returns:
            The ways that come after it, in their order: if the network was not better, those with
            a smaller rate first. A way that helped with fewer epochs than it should have had comes
            again, in case that time is left: the plan is made with an estimate.

        Raises:
            _Ended: The search ends here.
        """
        corrected = self._mistakes() * way.gain
        if way.learning_rate >= self._highest or corrected < FEWEST_CORRECTED:
            return left
        # Layers that a kept way has trained must train again: the activations at a higher cut would
        # come from the pretrained layers below it.
        if self._deepest is not None and self._deepest.share > way.share:
            way = replace(way, cut=self._deepest.cut, share=self._deepest.share)
        extractor = parts.extractor(self._inputs, way)
        if not self._budget.begun:  # the first way: the budget is in passes, so one is measured
            a_view = seconds_a_view(self._inputs.train_files, extractor)
            self._announce(self._budget.begin(a_view / way.image_size**2))
        affordable = self._affordable(way, extractor)
        if affordable is None:
            return left
        try:
            kept = self._try(affordable, extractor)
        except _TooSlow:
            return [way, *left]  # is planned again, with the cost that was measured
        except OutOfTime:
            if self._budget.stopped:
                raise _Ended("interrupted", "The search was ended by Ctrl-C.") from None
            raise _Ended(
                "minutes", f"The time ran out before {affordable} was evaluated."
            ) from None
        self._failures = 0 if kept else self._failures + 1
        if kept and affordable.epochs < way.epochs:
            left = [replace(way, gain=CONTINUED_GAIN), *left]
        if self._budget.stopped:
            raise _Ended("interrupted", "The search was ended by Ctrl-C.")
        if 1 - self._mistakes() / self._answerable() >= ENOUGH:
            where = "in cross-validation" if self._folds else "on validation"
            raise _Ended("enough", f"The best network reaches {ENOUGH:g} or more {where}.")
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
        passes = (_PLANNED_SHARE if self._folds else 1.0) * self._budget.passes()
        if way.within(passes) is None:
            least = way.smallest()
            minutes = self._budget.minutes(least.passes())
            self._skipped = self._skipped or _Ended(
                "minutes",
                f"There was not enough time left (train.minutes) for {least}, which would have "
                f"taken about {minutes:.1f} minutes.",
            )
            return None
        images = max(len(part.training.labels) for part in [*self._folds, self._splits])
        views = most_views(extractor, images)  # builds the network
        if views < 0:
            self._skipped = self._skipped or _Ended(
                "space",
                "The activations of the training images would take more than a quarter of the "
                f"free space in {tempfile.gettempdir()}.",
            )
            return None
        return replace(way, views=min(views, way.views)).within(passes)

    def _announce(self, minutes: float) -> None:
        """Say why networks are tried, for how long, and how they are judged."""
        given = f"{round(minutes, 1 if minutes >= 0.1 else 3):g}"
        progress.say(
            f"The head alone reaches {self._head.history['solution']['accuracy']:.3f} in "
            "cross-validation over the training images. Networks that may be better are tried for "
            f"at most {given} {'minute' if given == '1' else 'minutes'} (--minutes)."
            + (
                f" The validation split has only {self._head.right.size} images, so each network "
                f"is judged by {parts.FOLDS}-fold cross-validation over train and validation."
                if self._folds
                else ""
            )
        )

    def _try(self, way: Way, extractor: FeatureExtractor) -> bool:
        """Try a way, and keep the network if it is better by more than noise; return if so."""
        started = time.monotonic()
        judging = self._judging()
        try:
            fitted = []
            for part in judging:
                fitted.append(self._fitted(way, extractor, part, self._budget.over))
                if self._folds:
                    self._check_time(way, fitted, started)
            seconds = time.monotonic() - started
            result = self._compared(fitted)
            shipped = fitted[0]
            if result["kept"] and self._folds:
                over = self._budget.interrupted
                shipped = self._fitted(way, extractor, self._splits, over)
                if over():  # it is trained only in part, and nothing has judged it
                    raise OutOfTime
        except Diverged:
            self._highest = way.learning_rate
            return self._fail(way, "diverged", started)
        except Exception as caught:
            if not (lacking := shortages.lacking(caught)):
                raise
            return self._fail(way, lacking, started)  # the best network so far needs no more of it
        if all(one.history["stopped"] == "epochs" for one in fitted):  # all of them were trained
            self._budget.learn(way, self._training_images(judging), seconds)
        self._tell(
            {
                "what": str(replace(way, epochs=len(shipped.history["epochs"]))),
                **result,
                "seconds": round(time.monotonic() - started, 1),
                "failure": None,
            }
        )
        if result["kept"]:
            self._keep(way, fitted, shipped)
        return bool(result["kept"])

    def _check_time(self, way: Way, fitted: Sequence[Trained], started: float) -> None:
        """Check after each fold whether it was trained to its end, and whether the others can be.

        Args:
            way: The way that is tried.
            fitted: The networks of the folds so far.
            started: Time at which the first fold began.

        Raises:
            OutOfTime: The time ended while the last of them was trained.
            _TooSlow: The other folds do not fit into the time.
        """
        if fitted[-1].history["stopped"] == "minutes":
            raise OutOfTime
        seconds = time.monotonic() - started
        rest = seconds * (len(self._folds) / len(fitted) - 1)
        if rest and not self._budget.has(rest):
            images = self._training_images(self._folds[: len(fitted)])
            self._budget.learn(way, images, seconds)
            raise _TooSlow

    @staticmethod
    def _training_images(several: Sequence[Part]) -> int:
        """Return how many images the networks of some parts are trained on."""
        return sum(len(part.training.labels) for part in several)

    def _compared(self, fitted: Sequence[Trained]) -> dict[str, Any]:
        """Compare networks with the best so far, on the images that judge.

        Args:
            fitted: The new network of each part that judges.
        """
        before, after = self._best(), judgement(list(zip(self._judging(), fitted, strict=True)))
        # Both networks answer the same images, so the error is that of paired differences. The loss
        # may decide where the accuracies do not, but never against them.
        gains = after.right.astype(np.float64) - before.right
        gain, error = float(gains.mean()), standard_error(gains, before.groups)
        return {
            "judged_by": self._judged_by,
            "accuracy": float(after.right.mean()),
            "gain": gain,
            "standard_error": error,
            "kept": gain >= 0 and (gain > 2 * error or after.better_than(before)),
        }

    def _keep(self, way: Way, fitted: Sequence[Trained], shipped: Trained) -> None:
        """Replace the best networks of all parts."""
        tuned = {
            **shipped.history,
            "helped": True,
            "shipped": True,
            "head_accuracy": float(self._head.right.mean()),
            "accuracy": float(shipped.right.mean()),
        }
        trained = shipped.history["trained"]
        history = {**self._head.history, "fine_tune": tuned, "trained": trained}
        if self._folds:
            pairs = zip(self._folds, fitted, strict=True)
            self._folds = [replace(part, best=one) for part, one in pairs]
            history["cross_validation"] = parts.cross_validation(self._folds).summary()
        best = replace(shipped, history=history, image_size=way.image_size)
        self._splits = replace(self._splits, best=best)
        self._deepest = way

    def _fail(self, way: Way, failure: str, started: float) -> Literal[False]:
        """Record a way that was not trained to its end; `failure` is a key of `tried.FAILURES`."""
        self._tell(
            {
                "what": str(way),
                "judged_by": self._judged_by,
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

    def _fitted(
        self, way: Way, extractor: FeatureExtractor, part: Part, over: Callable[[], bool]
    ) -> Trained:
        """Trains the network of a part; see `parts.fitted`."""
        log_dir = None
        if part is self._splits and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / f"search-{len(self._rows)}"
        # The network that is shipped is trained like those of the folds, which stand for it.
        last_epoch = bool(self._folds)
        return parts.fitted(self._inputs, part, way, extractor, over, log_dir, last_epoch)
