"""Searches for a network that is better than the solved head, within a budget of time.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too, in one way after the other, in the order of the expected gain for the cost, and each
starting from the best network so far. The result of a way is kept only if it is better on held-out
images by more than noise. The test split is never used. The time determines only when the search
ends, and how many views and epochs a way can have.

Where the validation split is large, it judges networks that are trained on split train. A gain of
one point cannot be seen on a hundred images, though. Where validation has few, all images of train
and validation judge, in folds: the network of a fold is trained on the images of the others.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models import process, progress
from imgpipe.models.errors import Diverged
from imgpipe.models.examples import Labelled
from imgpipe.models.features.bank import BankRows, read_facts, read_rows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, of_networks
from imgpipe.models.head.answers import Answers, better, standard_error
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search.ways import (
    FEWEST_CORRECTED,
    Way,
    line_of,
    ways,
)
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import image_rows, stages
from imgpipe.models.training.cross_validation import learned_from_both, summary
from imgpipe.models.training.stages import Inputs, Part, Trained

if TYPE_CHECKING:
    import keras

#: Share of the remaining time for which a way is planned where folds judge. If the time ends before
#: all folds are trained, nothing has been learned from any of them.
_PLANNED_SHARE: Final = 0.9
#: If no budget is given, the search may take as long as this number of forward passes of all
#: training images, within these limits.
_PASSES: Final = 60
_LEAST_MINUTES: Final = 0.5
_MOST_MINUTES: Final = ((500, 0.75), (2000, 3.0), (math.inf, 15.0))  # up to a number of images

#: What became of a way: it was kept or not; the other folds do not fit into the time, so that it is
#: planned again; or the time ended before it was judged.
Outcome = Literal["kept", "not kept", "slow", "late"]


class Ended(NamedTuple):
    """Why the search ended.

    Attributes:
        reason: "enough", "few_mistakes", "all", "minutes" or "space".
        text: The reason for people.
    """

    reason: str
    text: str


def train(inputs: Inputs) -> Trained:
    """Trains in stages, and searches if the settings ask for it and the head falls short.

    Args:
        inputs: Inputs of the training.

    Returns:
        The best network, with the search in its history.

    Raises:
        DataRefused: A split has no labelled image.
    """
    head = learned_from_both(inputs) or stages.train(inputs)
    accuracy = (head.history.get("solution") or {}).get("accuracy")
    if not inputs.settings.searches or accuracy is None:
        return head
    if accuracy >= ENOUGH:
        judged_by = "folds" if head.by_folds else "validation"
        ended = (
            f"Nothing else was tried, because the head alone reaches {accuracy:.3f} in "
            "cross-validation over the training images"
        )
        if not head.by_folds:
            ended += f", and {head.answers.accuracy:.3f} on the validation split"
        row = _row_of_head(head, judged_by, head.answers.accuracy)
        return _with_history(head, [row], Ended("enough", f"{ended}."))
    training, held_out = map(Labelled.read, (inputs.train_files, inputs.validation_files))
    parts = folds(inputs, of_networks(len(training), len(held_out)))
    if parts and head.by_folds:  # the network that ships learns from validation, too
        training = Labelled.read([*inputs.train_files, *inputs.validation_files])
        rows = read_rows(inputs.bank_uri, (names.TRAIN, names.VALIDATION), inputs.classes, 0)
        return _Search(inputs, Part(training, held_out, head, _start(inputs, rows)), parts).run()
    # The validation split judges networks that are trained on split train alone.
    trained = stages.train(inputs) if head.by_folds else head
    known = np.isin(held_out.labels, training.labels)
    best = replace(trained, answers=replace(trained.answers, known=known))
    start = _start(inputs, read_rows(inputs.bank_uri, names.TRAIN, inputs.classes, 0))
    found = _Search(inputs, Part(training, held_out, best, start), parts).run()
    if not head.by_folds or found.history["trained"] != stages.HEAD:
        return found
    tried = {key: found.history[key] for key in ("search", "search_ended")}
    return replace(head, history={**head.history, **tried})


def folds(inputs: Inputs, count: int) -> list[Part]:
    """Divide the images of train and validation into folds, and train a head for each of them.

    Images of one group are in one fold. There are no folds if there are too few independent images,
    or if each class is in one fold.
    """
    if not count:
        return []
    settings, both = inputs.settings, (names.TRAIN, names.VALIDATION)
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    rows = read_rows(inputs.bank_uri, both, inputs.classes, settings.views.count, count)
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    fold = rows.folds(count)
    parts = []
    for number in range(count):
        rest, held = rows.select(fold != number), rows.select((fold == number) & rows.clean)
        head = stages.fitted_head(rest, held, inputs.classes, settings)
        here = np.isin(images.hashes, held.hashes)
        start = _start(inputs, rest.select(rest.clean))
        parts.append(Part(images.select(~here), images.select(here), head, start))
    return parts if any(part.best.answers.answerable.any() for part in parts) else []


def _start(inputs: Inputs, rows: BankRows) -> keras.Model | None:
    """Return the head from which networks are trained; None if it is the one that was judged.

    It reads the last feature map alone: training moves that map, and the deviations of lower maps,
    which are not scaled in a network, would make steps too large.
    """
    if not rows.sizes[1:]:
        return None
    plain = rows.first_block()
    return stages.fitted_head(plain, plain, inputs.classes, inputs.settings).layers


def _row_of_head(head: Trained, judged_by: str, accuracy: float) -> dict[str, Any]:
    return {
        "what": "head on frozen features",
        "judged_by": judged_by,
        "accuracy": accuracy,
        **dict.fromkeys(("gain", "standard_error", "failure")),
        "seconds": round(float(head.history["seconds"]), 1),
        "kept": True,
    }


def _with_history(trained: Trained, rows: list[dict[str, Any]], ended: Ended) -> Trained:
    """Return the network with the list of ways that were tried, and why the search ended."""
    history = {**trained.history, "search": rows, "search_ended": ended._asdict()}
    return replace(trained, history=history)


class _Budget:
    """The remaining time of a search.

    Costs are in forward passes of an image of 1 x 1 pixels, because the time of a convolution grows
    with the number of pixels. The time runs as soon as the seconds of such a pass are known.
    """

    def __init__(self, settings: ModelSettings, images: int, distinct: int) -> None:
        self._settings, self._images, self._distinct = settings, images, distinct
        self._until, self.pass_seconds = float("inf"), 0.0

    def begin(self, pass_seconds: float) -> float:
        """Let the time run, and return how many minutes there are."""
        self.pass_seconds = pass_seconds
        minutes = self._settings.minutes
        if minutes is None:
            minutes = _PASSES * self.minutes(self._settings.size**2)
            most = next(limit for images, limit in _MOST_MINUTES if self._distinct <= images)
            minutes = min(max(minutes, _LEAST_MINUTES), most)
        self._until = time.monotonic() + 60 * minutes
        return minutes

    def minutes(self, passes: float) -> float:
        """Estimate how many minutes a number of forward passes takes for all images."""
        return passes * self._images * self.pass_seconds / 60

    def passes(self) -> float:
        """Estimate how many forward passes of each image fit into the remaining time."""
        return (self._until - time.monotonic()) / (self._images * self.pass_seconds)

    def has(self, seconds: float) -> bool:
        """Return whether that much time remains."""
        return time.monotonic() + seconds <= self._until

    def over(self) -> bool:
        """Return whether the time is over."""
        return not self.has(0)


class _Search:
    """One search: the best network so far, the ways that were tried, and the remaining time."""

    def __init__(self, inputs: Inputs, splits: Part, parts: list[Part]) -> None:
        self._inputs, self._head = replace(inputs, settings=inputs.settings.of_search), splits.best
        self._splits, self._folds = splits, parts
        self._judged_by = "folds" if parts else "validation"
        self._rows = [_row_of_head(self._head, self._judged_by, self._best.accuracy)]
        distinct = len(np.union1d(splits.training.hashes, splits.held_out.hashes))
        self._budget = _Budget(inputs.settings, _training_images([*parts, splits]), distinct)

    @property
    def _judging(self) -> list[Part]:
        """The parts whose held-out images judge the networks."""
        return self._folds or [self._splits]

    @property
    def _best(self) -> Answers:
        """The answers of the best networks so far."""
        return Answers.joined([part.best.answers for part in self._judging])

    def run(self) -> Trained:
        """Try one way after the other and return the best network with its history."""
        settings = self._inputs.settings
        side = self._splits.training.usual_side()
        ended = self._try_all(ways(settings, backbone_of(settings), side))
        best = self._splits.best
        if self._folds and not best.by_folds:  # they have more answers than the validation split
            best = replace(best, answers=self._best, by_folds=True)
        return _with_history(best, self._rows, ended)

    def _try_all(self, left: list[Way]) -> Ended:
        """Try one way after the other, as far as time and space allow, while they are worth it."""
        skipped: Ended | None = None
        any_way = bool(left)
        precision = read_facts(self._inputs.bank_uri).precision
        while left:
            way = left.pop(0)
            if self._best.mistakes * way.gain < FEWEST_CORRECTED:
                continue
            network = way.settings(self._inputs.settings)
            extractor = FeatureExtractor(network, precision, way.cut)
            if not self._budget.pass_seconds:  # the first way: the budget is in passes of it
                a_view = image_rows.seconds_a_view(self._splits.training, extractor)
                self._announce(self._budget.begin(a_view / way.image_size**2))
            affordable = self._affordable(way, extractor)
            if isinstance(affordable, Ended):  # a cheaper way may still be tried
                skipped = skipped or affordable
                continue
            outcome = self._try(affordable, extractor)
            if outcome == "slow":  # it is planned again, with the cost that was measured
                left.insert(0, way)
            elif outcome == "late":
                return Ended("minutes", f"The time ran out before {affordable} was evaluated.")
            elif 1 - self._best.mistakes / self._best.answerable.sum() >= ENOUGH:
                where = "in cross-validation" if self._folds else "on validation"
                return Ended("enough", f"The best network reaches {ENOUGH:g} or more {where}.")
        if skipped or not any_way or len(self._rows) > 1:  # the first row is that of the head
            return skipped or Ended("all", "Everything that was worth a try was tried.")
        return self._few_mistakes()

    def _few_mistakes(self) -> Ended:
        """Say that no way was worth a try."""
        where, more = "validation images", "A larger validation split (split.validation)"
        if self._folds:
            where, more = "images of train and validation", "More images"
        best = self._best
        return Ended(
            "few_mistakes",
            f"Nothing else was tried, because the head is wrong on only {best.mistakes:,} of "
            f"{best.answerable.sum():,} {where}, so that the gain of another network could not be "
            f"distinguished from chance. {more} would let the search run.",
        )

    def _affordable(self, way: Way, extractor: FeatureExtractor) -> Way | Ended:
        """Return the way with the views and epochs that space and time allow, if they allow any."""
        passes = (_PLANNED_SHARE if self._folds else 1.0) * self._budget.passes()
        if way.within(passes) is not None:
            images = max(len(part.training) for part in [*self._folds, self._splits])
            views = image_rows.most_views(extractor, images)  # builds the network
            if views < 0:
                return Ended(
                    "space",
                    "The activations of the training images would take more than a quarter of the "
                    f"free space in {tempfile.gettempdir()}.",
                )
            found = replace(way, views=min(views, way.views)).within(passes)
            if found is not None:
                return found
        least = way.smallest()
        return Ended(
            "minutes",
            f"There was not enough time left (train.minutes) for {least}, which would have taken "
            f"about {self._budget.minutes(least.passes()):.1f} minutes.",
        )

    def _announce(self, minutes: float) -> None:
        """Say why networks are tried, for how long, and how they are judged."""
        given = f"{round(minutes, 1 if minutes >= 0.1 else 3):g}"
        text = (
            f"The head alone reaches {self._head.history['solution']['accuracy']:.3f} in "
            "cross-validation over the training images. Networks that may be better are tried for "
            f"at most {given} {'minute' if given == '1' else 'minutes'} (--minutes)."
        )
        if self._folds:
            text += (
                f" The validation split has only {len(self._splits.held_out)} images, so each "
                f"network is judged by {len(self._folds)}-fold cross-validation over train and "
                "validation."
            )
        progress.say(text)

    def _try(self, way: Way, extractor: FeatureExtractor) -> Outcome:
        """Try a way, and keep the network if it is better by more than noise."""
        started = time.monotonic()
        fitted: list[Trained] = []
        try:
            for part in self._judging:
                one = self._fitted(way, extractor, part, self._budget.over)
                # Where folds judge, all of them must be trained to their end.
                if one is None or (self._folds and one.history["stopped"] == "minutes"):
                    return "late"
                fitted.append(one)
                seconds = time.monotonic() - started
                rest = seconds * (len(self._judging) / len(fitted) - 1)
                if rest and not self._budget.has(rest):  # the other folds do not fit into the time
                    self._learn(way, self._folds[: len(fitted)], seconds)
                    return "slow"
            row = self._compared(fitted)
            shipped = fitted[0]
            if row["kept"] and self._folds:
                # It takes the time that it needs: trained only in part, nothing would judge it.
                whole = self._fitted(way, extractor, self._splits, lambda: False)
                if whole is None:
                    return "late"
                # The curve of validation shows images that this network has learned from.
                seen = dict.fromkeys(("val_loss", "val_accuracy"))
                epochs = [epoch | seen for epoch in whole.history["epochs"]]
                answers = Answers.joined([one.answers for one in fitted])
                history = {**whole.history, "epochs": epochs}
                shipped = replace(whole, answers=answers, by_folds=True, history=history)
        except Diverged:
            return self._tell(way, started, failure="diverged")
        except Exception as caught:
            if not (lacking := process.lacking(caught)):
                raise
            return self._tell(way, started, failure=lacking)  # the best so far needs no more
        if all(one.history["stopped"] == "epochs" for one in fitted):  # all of them were trained
            self._learn(way, self._judging, seconds)
        outcome = self._tell(replace(way, epochs=len(shipped.history["epochs"])), started, **row)
        if outcome == "kept":
            self._keep(way, fitted, shipped)
        return outcome

    def _fitted(
        self, way: Way, extractor: FeatureExtractor, part: Part, over: Callable[[], bool]
    ) -> Trained | None:
        """Trains the network of a part, from its best network so far on; see `stages.above`."""
        log_dir = None
        if part is self._splits and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / f"search-{len(self._rows)}"
        settings = way.settings(self._inputs.settings).second_stage()
        # The network that is shipped is trained like those of the folds, which stand for it.
        last = bool(self._folds)
        return stages.above(
            part, self._inputs.classes, settings, extractor, way.views, over, log_dir, last
        )

    def _learn(self, way: Way, trained_on: Sequence[Part], seconds: float) -> None:
        """Replace the cost of a forward pass by that of a way, which includes everything."""
        self._budget.pass_seconds = seconds / (way.passes() * _training_images(trained_on))

    def _compared(self, fitted: Sequence[Trained]) -> dict[str, Any]:
        """Compare the new network of each part with the best so far, on the images that judge."""
        before, after = self._best, Answers.joined([one.answers for one in fitted])
        gains = after.right.astype(float) - before.right
        return {
            "accuracy": after.accuracy,
            "gain": float(gains.mean()),
            "standard_error": standard_error(gains, before.groups),
            "kept": better(after.scores(), before.scores()),
        }

    def _keep(self, way: Way, fitted: Sequence[Trained], shipped: Trained) -> None:
        """Replace the best networks of all parts."""
        history = stages.both(self._head, shipped)
        if self._folds:
            pairs = zip(self._folds, fitted, strict=True)
            self._folds = [replace(part, best=one, start=None) for part, one in pairs]
            if known := self._head.history.get("cross_validation"):  # then folds decide
                answers = [(part.best.answers, len(part.training)) for part in self._folds]
                history["cross_validation"] = known | summary(answers)
        features = self._inputs.settings.features
        best = replace(shipped, history=history, image_size=way.image_size, features=features)
        self._splits = replace(self._splits, best=best, start=None)

    def _tell(self, way: Way, started: float, **known: Any) -> Outcome:
        """Record what is known of a way, display it, and return whether it was kept."""
        row = {
            "what": str(way),
            "judged_by": self._judged_by,
            **dict.fromkeys(("accuracy", "gain", "standard_error", "failure")),
            "seconds": round(time.monotonic() - started, 1),
            "kept": False,
            **known,
        }
        self._rows.append(row)
        progress.say(line_of(row))
        return "kept" if row["kept"] else "not kept"


def _training_images(several: Sequence[Part]) -> int:
    """Return how many images the networks of some parts are trained on."""
    return sum(len(part.training) for part in several)
