"""Searches for a network that is better than the solved head, within a budget of time.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too, with as many views and epochs as the time allows. The network is kept only if it is
better than the head on held-out images by more than a standard error. The test split is never used.

Where the head is wrong on enough validation images, these judge. A gain of one point cannot be seen
on a hundred images, though. Otherwise a fifth of the training images judges, too, and of few images
all, in folds: the network of a fold is trained on the images of the others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.models import process, progress
from imgpipe.models.errors import Diverged
from imgpipe.models.examples import Labelled
from imgpipe.models.features.bank import BankRows, read_facts, read_rows
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, FOLDS, of_networks
from imgpipe.models.head.answers import Answers, Flags, better, standard_error
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search.ways import Way, line_of, way_of
from imgpipe.models.training import image_rows, stages
from imgpipe.models.training.cross_validation import learned_from_both, summary
from imgpipe.models.training.stages import Inputs, Part, Trained

if TYPE_CHECKING:
    import keras

#: With fewer mistakes of the head, the gain of a better network would hardly be seen: the standard
#: error of four corrections is two.
_FEWEST_MISTAKES: Final = 5
#: Share of the remaining time for which a way is planned where folds judge. If the time ends before
#: all folds are trained, nothing has been learned from any of them.
_PLANNED_SHARE: Final = 0.9
#: Up to this number of images there is no search unless a budget is given: in a minute, a network
#: takes so few steps that it was worse than the head.
_FEW: Final = 500
#: Minutes of the search if no budget is given, up to a number of images of train and validation.
_MINUTES: Final = ((2000, 3.0), (float("inf"), 15.0))

_BOTH: Final[tuple[str, ...]] = (names.TRAIN, names.VALIDATION)

#: How the trial of a network ended. "judged": the network was compared with the head. "slow": the
#: first folds took longer than planned, so that a smaller training is tried in the remaining time.
#: "late": the time ended before the network could be compared.
Outcome = Literal["judged", "slow", "late"]


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
    solution = head.history.get("solution") or {}
    accuracy = solution.get("accuracy")
    if not inputs.settings.searches or accuracy is None:
        return head
    if accuracy >= ENOUGH:
        text = (
            f"Nothing else was tried, because the head alone reaches {accuracy:.3f} in "
            "cross-validation over the training images"
        )
        if not head.by_folds:
            text += f", and {head.answers.accuracy:.3f} on the validation split"
        ended = Ended("enough", f"{text}.")
    elif inputs.settings.minutes is None and solution["images"] <= _FEW:
        text = (
            f"Nothing else was tried, because with at most {_FEW} images to learn from, a network"
        )
        ended = Ended("minutes", f"{text} needs more time than a run usually takes (--minutes).")
    else:
        return _Search(inputs, head, *_parts(inputs, head)).run()
    judged_by = "folds" if head.by_folds else "validation"
    row = _row_of_head(head, judged_by, head.answers.accuracy)
    return _with_history(head, [row], ended)


def _parts(inputs: Inputs, head: Trained) -> tuple[str, list[Part], Part]:
    """Decide which images judge networks.

    Args:
        inputs: Inputs of the training.
        head: The solved head.

    Returns:
        What judges, as in the rows of the search; the parts on which networks are judged; and the
        part on which the network that ships is trained.
    """
    training, held_out = map(Labelled.read, (inputs.train_files, inputs.validation_files))
    if several := folds(inputs, of_networks(len(training), len(held_out))):
        images, splits = training, _BOTH[:1]
        if head.by_folds:  # the network that ships learns from validation, too
            images = Labelled.read([*inputs.train_files, *inputs.validation_files])
            splits = _BOTH
        rows = read_rows(inputs.bank_uri, splits, inputs.classes, 0)
        return "folds", several, Part(images, held_out, head, _start(inputs, rows))
    wrong = head.answers.answerable & ~head.answers.right
    if head.by_folds:  # then there are answers for train, too
        wrong &= np.isin(np.asarray(head.answers.hashes), held_out.hashes)
    images, rows = _both(inputs, FOLDS)
    held = np.isin(rows.hashes, held_out.hashes)
    few = wrong.sum() < _FEWEST_MISTAKES
    if few:
        held |= rows.folds(FOLDS) == 0
    part = _part(inputs, images, rows, held)
    return "held_out" if few else "validation", [part], part


def folds(inputs: Inputs, count: int) -> list[Part]:
    """Divide the images of train and validation into folds, and train a head for each of them.

    Images of one group are in one fold. There are no folds if there are too few independent images,
    or if each class is in one fold.
    """
    if not count:
        return []
    images, rows = _both(inputs, count)
    if len(np.unique(rows.groups)) < 2 * count:
        return []
    fold = rows.folds(count)
    parts = [_part(inputs, images, rows, fold == number) for number in range(count)]
    return parts if any(part.best.answers.answerable.any() for part in parts) else []


def _both(inputs: Inputs, count: int) -> tuple[Labelled, BankRows]:
    """Read the images and the rows of train and validation, with groups for a number of folds."""
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    views = inputs.settings.views.count
    return images, read_rows(inputs.bank_uri, _BOTH, inputs.classes, views, count)


def _part(inputs: Inputs, images: Labelled, rows: BankRows, held: Flags) -> Part:
    """Return a part whose held-out images are those of some rows, with the head of the others."""
    rest, judging = rows.select(~held), rows.select(held & rows.clean)
    head = stages.fitted_head(rest, judging, inputs.classes, inputs.settings)
    learned = {"learned": {names.TRAIN: int(rest.clean.sum())}}
    here = np.isin(images.hashes, judging.hashes)
    start = _start(inputs, rest.select(rest.clean))
    best = replace(head, history={**head.history, **learned})
    return Part(images.select(~here), images.select(here), best, start)


def _start(inputs: Inputs, rows: BankRows) -> keras.Model | None:
    """Return the head from which networks are trained; None if it is the one that was judged.

    It reads the last feature map alone: training moves that map, and the deviations of lower maps,
    which are not scaled in a network, would make steps too large.
    """
    if not rows.sizes[1:]:
        return None
    plain = rows.first_block()
    return stages.fitted_head(plain, plain, inputs.classes, inputs.settings).layers


def _row(what: str, judged_by: str, seconds: float, **known: Any) -> dict[str, Any]:
    """Return what is known of a network that was tried."""
    unknown = dict.fromkeys(("accuracy", "gain", "standard_error", "failure"))
    given = {"what": what, "judged_by": judged_by, "seconds": round(seconds, 1), "kept": False}
    return given | unknown | known


def _row_of_head(head: Trained, judged_by: str, accuracy: float) -> dict[str, Any]:
    what, seconds = "head on frozen features", float(head.history["seconds"])
    return _row(what, judged_by, seconds, accuracy=accuracy, kept=True)


def _with_history(trained: Trained, rows: list[dict[str, Any]], ended: Ended) -> Trained:
    """Return the network with the list of what was tried, and why the search ended."""
    history = {**trained.history, "search": rows, "search_ended": ended._asdict()}
    return replace(trained, history=history)


class _Search:
    """One search: the head, the parts that judge, the remaining time, and what was tried."""

    def __init__(
        self, inputs: Inputs, head: Trained, judged_by: str, judging: list[Part], whole: Part
    ) -> None:
        self._inputs, self._head = replace(inputs, settings=inputs.settings.of_search), head
        self._judged_by, self._judging, self._whole = judged_by, judging, whole
        self._by_folds = judged_by == "folds"
        self._before = Answers.joined([part.best.answers for part in judging])
        self._rows = [_row_of_head(whole.best, judged_by, self._before.accuracy)]
        self._found = head
        self._until, self._pass_seconds = 0.0, 0.0  # the time, and that of a pass of one image

    def run(self) -> Trained:
        """Try to find a better network, and return the best one with its history."""
        ended = self._end()
        return _with_history(self._found, self._rows, ended)

    def _end(self) -> Ended:
        """Train a network as long as time and space allow, and return why the search ended."""
        settings = self._inputs.settings
        if (way := way_of(settings, backbone_of(settings))) is None:
            return Ended("all", "The network has no layer above which others could be trained.")
        if (before := self._before).mistakes < _FEWEST_MISTAKES:
            return Ended(
                "few_mistakes",
                f"Nothing else was tried, because the head is wrong on only {before.mistakes:,} of "
                f"{before.answerable.sum():,} held-out images, so that the gain of another network "
                "could not be distinguished from chance. More images would let the search run.",
            )
        network = way.settings(settings)
        precision = read_facts(self._inputs.bank_uri).precision
        whole = FeatureExtractor(network, precision)  # a step is planned by a share of its time
        self._pass_seconds = image_rows.seconds_a_view(self._whole.training, whole)
        extractor = FeatureExtractor(network, precision, way.cut)
        self._begin()
        outcome: Outcome = "slow"
        while outcome == "slow":  # it is planned again, with the cost that was measured
            affordable = self._affordable(way, extractor)
            if isinstance(affordable, Ended):
                return affordable
            outcome = self._try(affordable, extractor)
        if outcome == "late":
            return Ended("minutes", f"The time ran out before {affordable} was evaluated.")
        return Ended("all", "")

    def _begin(self) -> None:
        """Let the time run, and say why a network is tried, for how long, and who judges it."""
        minutes = self._inputs.settings.minutes
        if minutes is None:
            whole = self._whole
            distinct = len(np.union1d(whole.training.hashes, whole.held_out.hashes))
            minutes = next(limit for images, limit in _MINUTES if distinct <= images)
        self._until = time.monotonic() + 60 * minutes
        given = f"{round(minutes, 1 if minutes >= 0.1 else 3):g}"
        text = (
            f"The head alone reaches {self._head.history['solution']['accuracy']:.3f} in "
            "cross-validation over the training images. A network that may be better is trained "
            f"for at most {given} {'minute' if given == '1' else 'minutes'} (--minutes)."
        )
        if self._by_folds:
            text += (
                f" The validation split has only {len(self._whole.held_out)} images, so it is "
                f"judged by {len(self._judging)}-fold cross-validation over train and validation."
            )
        elif self._judged_by == "held_out":
            text += (
                " The head is wrong on few validation images, so a fifth of the training images "
                "judges, too."
            )
        progress.say(text)

    def _affordable(self, way: Way, extractor: FeatureExtractor) -> Way | Ended:
        """Return the way with the views and epochs that space and time allow, if they allow any."""
        parts = [*self._judging, self._whole] if self._by_folds else self._judging
        seconds_a_pass = self._pass_seconds * sum(len(part.training) for part in parts)
        left = self._until - time.monotonic()
        passes = (_PLANNED_SHARE if self._by_folds else 1.0) * left / seconds_a_pass
        if way.within(passes) is not None:
            images = max(len(part.training) for part in parts)
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
            f"about {least.passes() * seconds_a_pass / 60:.1f} minutes.",
        )

    def _try(self, way: Way, extractor: FeatureExtractor) -> Outcome:
        """Try a way, and keep the network if it is better by more than a standard error."""
        started = time.monotonic()
        fitted: list[Trained] = []
        try:
            for part in self._judging:
                one = self._fitted(way, extractor, part, lambda: time.monotonic() > self._until)
                # Where folds judge, all of them must be trained to their end.
                if one is None or (self._by_folds and one.history["stopped"] == "minutes"):
                    return "late"
                fitted.append(one)
                seconds = time.monotonic() - started
                rest = seconds * (len(self._judging) / len(fitted) - 1)
                if rest and time.monotonic() + rest > self._until:
                    done = sum(len(part.training) for part in self._judging[: len(fitted)])
                    self._pass_seconds = seconds / (way.passes() * done)  # includes everything
                    return "slow"
            row = self._compared(fitted)
            shipped = fitted[0]
            if row["kept"] and self._by_folds:
                # It takes the time that it needs: trained only in part, nothing would judge it.
                whole = self._fitted(way, extractor, self._whole, lambda: False)
                if whole is None:
                    return "late"
                # The curve of validation shows images that this network has learned from.
                seen = dict.fromkeys(("val_loss", "val_accuracy"))
                epochs = [epoch | seen for epoch in whole.history["epochs"]]
                answers = Answers.joined([one.answers for one in fitted])
                history = {**whole.history, "epochs": epochs}
                shipped = replace(whole, answers=answers, by_folds=True, history=history)
            way = replace(way, epochs=len(shipped.history["epochs"]))
            if row["kept"]:
                self._keep(fitted, shipped)
        except Diverged:
            row = {"failure": "diverged"}
        except Exception as caught:
            if not (lacking := process.lacking(caught)):
                raise
            row = {"failure": lacking}  # the head needs no more
        seconds = time.monotonic() - started
        self._rows.append(_row(str(way), self._judged_by, seconds, **row))
        progress.say(line_of(self._rows[-1]))
        return "judged"

    def _fitted(
        self, way: Way, extractor: FeatureExtractor, part: Part, over: Callable[[], bool]
    ) -> Trained | None:
        """Trains the network of a part, from its head on; see `stages.above`."""
        log_dir = None
        if part is self._whole and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / "search"
        settings = way.settings(self._inputs.settings).second_stage()
        # The network that is shipped is trained like those of the folds, which stand for it.
        last = self._by_folds
        return stages.above(
            part, self._inputs.classes, settings, extractor, way.views, over, log_dir, last
        )

    def _compared(self, fitted: list[Trained]) -> dict[str, Any]:
        """Compare the network of each part with its head, on the images that judge."""
        before, after = self._before, Answers.joined([one.answers for one in fitted])
        gains = after.right.astype(float) - before.right
        return {
            "accuracy": after.accuracy,
            "gain": float(gains.mean()),
            "standard_error": standard_error(gains, before.groups),
            "kept": better(after.scores(), before.scores()),
        }

    def _keep(self, fitted: list[Trained], shipped: Trained) -> None:
        """Let a network be the result instead of the head."""
        self._rows[0]["kept"] = False
        known = self._whole.best.history | {"solution": self._head.history["solution"]}
        head = replace(self._whole.best, answers=self._before, history=known)
        history = stages.both(head, shipped)
        if self._by_folds and (judged := self._head.history.get("cross_validation")):
            parts = zip(fitted, self._judging, strict=True)  # the folds decide
            answers = [(one.answers, len(part.training)) for one, part in parts]
            history["cross_validation"] = judged | summary(answers)
        self._found = replace(shipped, history=history, features=self._inputs.settings.features)
