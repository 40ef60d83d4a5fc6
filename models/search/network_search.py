"""Searches for a network that is better than the solved head.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too. How many views and epochs follows from the data; only minutes that a person gives limit
them by the clock. The network is kept only if it is better than the head on held-out images by more
than chance. The test split is never used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, Literal

import numpy as np
from typing_extensions import TypedDict

from imgpipe.models.errors import Diverged
from imgpipe.models.features.bank import read_facts
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, FEWEST_MISTAKES
from imgpipe.models.head.answers import Answers, better
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.machine import process, progress
from imgpipe.models.machine.progress import TimeLeft
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search import search_ends
from imgpipe.models.search.judging import images_of, judging_parts
from imgpipe.models.search.nominal_cost import nominal_minutes, nominal_seconds_a_view
from imgpipe.models.search.training_plan import TrainingPlan, training_plan
from imgpipe.models.training import image_rows, stages
from imgpipe.models.training.cross_validation import summary_of_others
from imgpipe.models.training.head_from_both_splits import head_from_both_splits
from imgpipe.models.training.history import (
    Epoch,
    JudgedBy,
    NetworkHistory,
    SearchEnd,
    Tried,
    describe_tried,
)
from imgpipe.models.training.stages import Inputs, Part, Trained
from imgpipe.models.training.watch import Watch

#: Share of the time for which a training is planned where the network that ships is another one
#: than those that are judged. If the time ends before all are trained, none of them is of use.
_PLANNED_SHARE: Final = 0.9
#: Up to this number of images there is no search unless minutes are given: in a minute, a network
#: takes too few steps to become better than the head.
_FEW: Final = 500

#: How the trial of a network ended. "judged": the network was compared with the head. "stopped": so
#: it was, but the time ended before its last epoch. "slow": the first folds took longer than
#: planned, so that a smaller training is tried in the remaining time. "late": the time ended before
#: the network could be compared.
Outcome = Literal["judged", "stopped", "slow", "late"]


def train(inputs: Inputs) -> Trained:
    """Trains in stages, and searches if the settings ask for it and the head falls short.

    Args:
        inputs: Inputs of the training.

    Returns:
        The best network, with the search in its history.

    Raises:
        DataRefused: A split has no labelled image.
    """
    head = head_from_both_splits(inputs) or stages.train(inputs)
    solution = head.history["solution"]
    if not inputs.settings.searches or solution is None or solution["accuracy"] is None:
        return head
    accuracy = solution["accuracy"]
    images = solution["images"] or 0
    if accuracy >= ENOUGH:
        on_validation = None if head.by_folds else head.answers.accuracy
        ended = search_ends.head_is_enough(accuracy, on_validation)
    elif inputs.settings.minutes is None and images <= _FEW:
        ended = search_ends.few_images(images, _FEW)
    else:
        return _Search(inputs, head, accuracy, *judging_parts(inputs, head)).run()
    tried = _tried_head(head, "folds" if head.by_folds else "validation", head.answers.accuracy)
    return search_ends.with_search(head, [tried], ended)


def _tried_head(head: Trained, judged_by: JudgedBy, accuracy: float) -> Tried:
    """Return the record of the head, which is the result unless a network is better."""
    return {
        "what": "head on frozen features",
        "judged_by": judged_by,
        "accuracy": accuracy,
        "gain": None,
        "standard_error": None,
        "seconds": round(head.history["seconds"], 1),
        "kept": True,
        "failure": None,
    }


class _Comparison(TypedDict):
    """The fields of `Tried` that compare a network with the head."""

    accuracy: float
    gain: float
    standard_error: float
    kept: bool


class _Search:
    """One search: the head, the parts that judge, the remaining time, and what was tried."""

    def __init__(
        self,
        inputs: Inputs,
        head: Trained,
        accuracy_in_folds: float,
        judged_by: JudgedBy,
        judging: list[Part],
        whole: Part,
    ) -> None:
        self._inputs = replace(inputs, settings=inputs.settings.with_one_block)
        self._head = head
        self._accuracy_in_folds = accuracy_in_folds
        self._judged_by = judged_by
        self._judging = judging
        self._whole = whole
        self._by_folds = judged_by == "folds"
        self._ships_another = whole is not judging[0]  # one that learns from all images
        self._before = Answers.joined([part.best.answers for part in judging])
        self._tried = [_tried_head(whole.best, judged_by, self._before.accuracy)]
        self._result = head
        self._minutes = inputs.settings.minutes  # None: the data decide, and no clock
        self._until = math.inf  # when the minutes that were given are over
        self._image_seconds = 0.0  # training on one image by the plan that is tried
        self._view_seconds = 0.0  # a forward pass of one view, by which trainings are planned

    def run(self) -> Trained:
        """Try to find a better network, and return the best one with its history."""
        ended = self._end()
        if len(self._tried) == 1:  # no network was compared with the heads of the parts
            of_folds = self._head.by_folds  # then they decide on the blessing
            accuracy = (self._head.answers if of_folds else self._before).accuracy
            self._tried = [_tried_head(self._head, self._judged_by, accuracy)]
        return search_ends.with_search(self._result, self._tried, ended)

    def _end(self) -> SearchEnd:
        """Train a network if there is one to train, and return why the search ended."""
        settings = self._inputs.settings
        network = backbone_of(settings)
        plan = training_plan(settings, network)
        if plan is None:
            return search_ends.no_layers()
        held_out = int(self._before.answerable.sum())
        # So few mistakes are expected, and not counted: their number is a matter of chance.
        if (1 - self._accuracy_in_folds) * held_out < FEWEST_MISTAKES:
            return search_ends.few_mistakes(self._accuracy_in_folds, held_out, FEWEST_MISTAKES)
        progress.part("measuring how fast this machine is")
        precision = read_facts(self._inputs.bank_uri)["precision"]
        network_settings = plan.settings(settings)
        extractor = FeatureExtractor(network_settings, precision, plan.cut)
        # A step is planned by a share of the time of the whole network.
        timed_extractor = FeatureExtractor(network_settings, precision)
        if self._minutes is None:
            self._view_seconds = nominal_seconds_a_view(network, settings.size)
            return self._by_data(plan, extractor, timed_extractor)
        self._view_seconds = image_rows.seconds_a_view(self._whole.training, timed_extractor)
        return self._by_minutes(plan, extractor, self._minutes)

    def _by_data(
        self, most: TrainingPlan, extractor: FeatureExtractor, timed_extractor: FeatureExtractor
    ) -> SearchEnd:
        """Train by the plan that follows from the data, however long it takes here.

        Args:
            most: The plan with the views and epochs of the settings.
            extractor: Extractor of the activations at the cut.
            timed_extractor: Extractor whose time tells how long the training will take here.
        """
        whole = self._whole
        distinct = len(np.union1d(whole.training.hashes, whole.held_out.hashes))
        minutes = nominal_minutes(distinct)
        planned = most.within(self._passes(60 * minutes))
        if planned is None:
            least = most.smallest()
            needed = self._minutes_of(least, self._view_seconds)
            return search_ends.costly(least, needed, minutes)
        affordable = self._with_space(planned, extractor)
        if affordable is None:
            return search_ends.no_space()
        seconds = image_rows.seconds_a_view(whole.training, timed_extractor)
        needed = self._minutes_of(affordable, seconds)
        self._image_seconds = 60 * needed / images_of(self._parts())
        here = search_ends.in_minutes(max(needed, 0.1))
        self._say(
            f"A network that may be better is trained: {affordable}. This takes about {here} on "
            "this machine as it is now; --minutes limits the time."
        )
        self._try(affordable, extractor)
        return search_ends.all_tried(affordable, planned)

    def _by_minutes(
        self, most: TrainingPlan, extractor: FeatureExtractor, minutes: float
    ) -> SearchEnd:
        """Train by the largest plan for which the minutes that a person gave are enough."""
        self._until = time.monotonic() + 60 * minutes
        given = search_ends.in_minutes(minutes)
        self._say(f"A network that may be better is trained for at most {given} (--minutes).")
        while True:  # it is planned again, with the cost that was measured, if it was too slow
            passes = self._passes(self._until - time.monotonic())
            if most.within(passes) is None:
                least = most.smallest()
                needed = self._minutes_of(least, self._view_seconds)
                return search_ends.no_time(least, needed)
            allowed = self._with_space(most, extractor)
            affordable = allowed.within(passes) if allowed is not None else None
            if allowed is None or affordable is None:
                return search_ends.no_space()
            outcome = self._try(affordable, extractor)
            if outcome == "late":
                return search_ends.late(affordable)
            if outcome == "stopped" or (outcome == "judged" and affordable != allowed):
                return search_ends.minutes_decided(given, allowed)
            if outcome == "judged":
                return search_ends.all_tried(allowed, most)

    def _say(self, training: str) -> None:
        """Say why a network is tried, how, and who judges it."""
        text = (
            f"The head alone reaches {self._accuracy_in_folds:.3f} in cross-validation. {training}"
        )
        before = f"the head reaches {self._before.accuracy:.3f}"
        if self._by_folds:
            text += (
                f" The validation split has only {len(self._whole.held_out)} images, so it is "
                f"judged by {len(self._judging)}-fold cross-validation over train and validation. "
                f"With fewer images to learn from, {before} there, with which it is compared."
            )
        elif self._judged_by == "held_out":
            text += (
                " The head is wrong on few validation images, so a fifth of the training images "
                f"judges, too; there, {before}."
            )
        else:
            text += f" On the validation images, which judge it, {before}."
        progress.say(text)

    def _parts(self) -> list[Part]:
        """Return the parts that share the time of a plan.

        Where one network judges and there is no clock, that of all images is not among them: it is
        trained for as long again, but only where this pays.
        """
        shared = self._by_folds or self._minutes is not None
        return [*self._judging, self._whole] if self._ships_another and shared else self._judging

    def _passes(self, seconds: float) -> float:
        """Return how many forward passes of each training image fit into a time."""
        share = _PLANNED_SHARE if self._ships_another else 1.0
        return share * seconds / (self._view_seconds * images_of(self._parts()))

    def _minutes_of(self, plan: TrainingPlan, view_seconds: float) -> float:
        """Return how long a plan takes if a forward pass of one view takes some seconds."""
        return plan.passes() * view_seconds * images_of(self._parts()) / 60

    def _estimate(self, parts: Iterable[Part]) -> TimeLeft:
        """Return how long the training on some parts takes at the pace so far."""
        return TimeLeft(self._image_seconds * images_of(parts), is_limit=False)

    def _with_space(self, plan: TrainingPlan, extractor: FeatureExtractor) -> TrainingPlan | None:
        """Return the plan with the views for which there is space; None if there is for none."""
        views = image_rows.most_views(extractor, len(self._whole.training))  # builds the network
        return replace(plan, views=min(views, plan.views)) if views >= 0 else None

    def _try(self, plan: TrainingPlan, extractor: FeatureExtractor) -> Outcome:
        """Train by a plan, and keep the network if it is better by more than chance."""
        started = time.monotonic()
        tried = self._tried[0].copy()
        tried.update({"what": str(plan), "accuracy": None, "kept": False})
        stopped = False
        try:
            networks = self._fitted_parts(plan, extractor)
            if isinstance(networks, str):
                return networks
            comparison = self._compared(networks)
            shipped = networks[0]
            if comparison["kept"] and self._ships_another:
                whole = self._fitted_whole(plan, extractor, networks)
                if whole is None:
                    return "late"
                shipped = whole
            stopped = shipped.history["stopped"] == "minutes"
            plan = replace(plan, epochs=len(shipped.history["epochs"]))
            tried = {**tried, **comparison, "what": str(plan)}
            if tried["kept"]:
                self._keep(networks, shipped)
        except Diverged:
            tried["failure"] = "diverged"
        except Exception as error:
            tried["failure"] = process.lacking(error)  # the head needs no more
            if tried["failure"] is None:
                raise
        tried["seconds"] = round(time.monotonic() - started, 1)
        self._tried.append(tried)
        progress.say(describe_tried(tried))
        return "stopped" if stopped else "judged"

    def _fitted_parts(
        self, plan: TrainingPlan, extractor: FeatureExtractor
    ) -> list[Trained] | Literal["slow", "late"]:
        """Train the network of each part that judges, or return why there was no time for that."""
        started = time.monotonic()
        networks: list[Trained] = []
        for number, part in enumerate(self._judging, 1):
            name = f"fold {number} of {len(self._judging)}" if self._by_folds else "a network"
            left = self._estimate(self._parts()[number - 1 :])
            if self._minutes is not None:
                left = TimeLeft(self._until - time.monotonic(), is_limit=True)
            progress.part(name, left)
            network = self._fitted(plan, extractor, part, lambda: time.monotonic() > self._until)
            # What stands for the network that ships must be trained to its end.
            stopped = network is not None and network.history["stopped"] == "minutes"
            if network is None or (self._ships_another and stopped):
                return "late"
            networks.append(network)
            seconds = time.monotonic() - started
            self._image_seconds = seconds / images_of(self._judging[:number])
            rest = seconds * (len(self._judging) / len(networks) - 1)
            if rest and time.monotonic() + rest > self._until:
                self._view_seconds = self._image_seconds / plan.passes()  # includes everything
                return "slow"
        return networks

    def _fitted_whole(
        self, plan: TrainingPlan, extractor: FeatureExtractor, networks: list[Trained]
    ) -> Trained | None:
        """Train the network that is shipped, for which those that were judged have answered.

        It takes the time that it needs: trained only in part, nothing would judge it.
        """
        progress.part("the network of all images", self._estimate([self._whole]))
        whole = self._fitted(plan, extractor, self._whole, lambda: False)
        if whole is None:
            return None
        # The curve of validation shows images that this network has learned from.
        epochs: list[Epoch] = [
            {**epoch, "val_loss": None, "val_accuracy": None} for epoch in whole.history["epochs"]
        ]
        answers = Answers.joined([network.answers for network in networks])
        history: NetworkHistory = {**whole.history, "epochs": epochs}
        return replace(whole, answers=answers, by_folds=self._by_folds, history=history)

    def _fitted(
        self, plan: TrainingPlan, extractor: FeatureExtractor, part: Part, over: Callable[[], bool]
    ) -> Trained | None:
        """Trains the network of a part, from its head on; see `stages.train_above_cut`."""
        log_dir = None
        if part is self._whole and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / "search"
        settings = plan.settings(self._inputs.settings).second_stage()
        # The network that is shipped is trained like those that stand for it.
        watch = Watch(over, keep_last=self._ships_another)
        classes = self._inputs.classes
        return stages.train_above_cut(
            part, classes, settings, extractor, plan.views, watch, log_dir
        )

    def _compared(self, networks: list[Trained]) -> _Comparison:
        """Compare the network of each part with its head, on the images that judge."""
        before = self._before
        after = Answers.joined([network.answers for network in networks])
        gains = after.right.astype(float) - before.right
        return {
            "accuracy": after.accuracy,
            "gain": float(gains.mean()),
            "standard_error": standard_error(gains, before.groups),
            "kept": better(after.scores(), before.scores()),
        }

    def _keep(self, networks: list[Trained], shipped: Trained) -> None:
        """Let a network be the result instead of the head."""
        self._tried[0]["kept"] = False
        of_head: NetworkHistory = {
            **self._whole.best.history,
            "solution": self._head.history["solution"],
            "cross_validation": None,
        }
        head = replace(self._whole.best, answers=self._before, history=of_head)
        history = stages.fine_tuned_history(head, shipped)
        folds_of_head = self._head.history["cross_validation"]
        if self._by_folds and folds_of_head:  # the folds decide
            parts = zip(networks, self._judging, strict=True)
            answers = [(network.answers, len(part.training)) for network, part in parts]
            history["cross_validation"] = summary_of_others(answers, folds_of_head)
        self._result = replace(shipped, history=history, features=self._inputs.settings.features)
