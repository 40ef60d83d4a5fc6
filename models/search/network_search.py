"""Searches for a network that is better than the solved head.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too. How many views and epochs follows from the data, or from minutes that a person gives.
The training ends early if it shows no gain. The network is kept only if it is better than the head
on held-out images by more than chance. The test split is never used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models.errors import Diverged
from imgpipe.models.features.bank import read_facts
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, FEWEST_MISTAKES
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.head.answers import Answers, Scores, better, gains
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.machine import process, progress
from imgpipe.models.machine.progress import TimeLeft
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search.judging import (
    NETWORK_FOLDS,
    Judging,
    head_from_both_splits,
    images_of,
    judging_parts,
)
from imgpipe.models.search.training_plan import (
    Outcome,
    TrainingPlan,
    after_trial,
    costly,
    few_images,
    few_mistakes,
    head_is_enough,
    in_minutes,
    no_space,
    nominal_minutes,
    nominal_seconds_a_view,
    training_plan,
    with_search,
)
from imgpipe.models.training import datasets, stages
from imgpipe.models.training.history import (
    Epoch,
    JudgedBy,
    NetworkHistory,
    Tried,
    describe_tried,
    summary,
)
from imgpipe.models.training.stages import Inputs, Part, Trained
from imgpipe.models.training.training_loop import Watch

if TYPE_CHECKING:
    import keras

#: Share of the minutes for which a training is planned. Of those that a person gives, the trial
#: before it takes another quarter.
_PLANNED_SHARE: Final = 0.9
_PLANNED_SHARE_OF_GIVEN: Final = 0.7
#: Up to this number of images there is no search unless minutes are given: in a minute, a network
#: takes too few steps to become better than the head.
_FEW: Final = 500


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
        ended = head_is_enough(accuracy, on_validation)
    elif inputs.settings.minutes is None and images <= _FEW:
        ended = few_images(images, _FEW)
    else:
        return _Search(inputs, head, accuracy, judging_parts(inputs, head)).run()
    tried = _tried_head(head, "folds" if head.by_folds else "validation", head.answers.accuracy)
    return with_search(head, [tried], ended)


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


class _Search:
    """One search: the head, the parts that judge, and what was tried."""

    def __init__(
        self, inputs: Inputs, head: Trained, accuracy_in_folds: float, judging: Judging
    ) -> None:
        self._inputs = replace(inputs, settings=inputs.settings.with_one_block)
        self._head = head
        self._accuracy_in_folds = accuracy_in_folds
        self._judging = judging
        self._before = Answers.joined([part.best.answers for part in judging.parts])
        self._tried = [_tried_head(judging.whole.best, judging.by, self._before.accuracy)]
        self._result = head
        self._until = math.inf  # when the minutes that were given are over
        if inputs.settings.minutes is not None:
            self._until = time.monotonic() + 60 * inputs.settings.minutes
        self._image_seconds = 0.0  # training on one image by the plan that is tried

    def run(self) -> Trained:
        """Try to find a better network, and return the best one with its history."""
        ended = self._end()
        if len(self._tried) == 1:  # no network was compared with the heads of the parts
            of_folds = self._head.by_folds  # then they decide on the blessing
            accuracy = (self._head.answers if of_folds else self._before).accuracy
            self._tried = [_tried_head(self._head, self._judging.by, accuracy)]
        return with_search(self._result, self._tried, ended)

    def _end(self) -> Finding:
        """Train a network if there is one to train, and return why the search ended."""
        settings = self._inputs.settings
        network = backbone_of(settings)
        most = training_plan(settings, network)
        if most is None:
            return make_finding(
                "all", "The network has no layer above which others could be trained"
            )
        held_out = int(self._before.answerable.sum())
        # So few mistakes are expected, and not counted: their number is a matter of chance.
        if (1 - self._accuracy_in_folds) * held_out < FEWEST_MISTAKES:
            return few_mistakes(self._accuracy_in_folds, held_out, FEWEST_MISTAKES)
        progress.part("measuring how fast this machine is")
        precision = read_facts(self._inputs.bank_uri)["precision"]
        # A step is planned by a share of the time of the whole network.
        timed_extractor = FeatureExtractor(most.settings(settings), precision)
        here = datasets.seconds_a_view(self._judging.whole.training, timed_extractor)
        plan, minutes = self._planned(most, network, here)
        if plan is None:
            return costly(most.smallest(), minutes, settings.minutes)
        extractor = FeatureExtractor(most.settings(settings), precision, most.cut)
        if not datasets.have_space(extractor, len(self._judging.whole.training), plan.views):
            return no_space(plan)
        self._image_seconds = plan.passes() * here
        about = in_minutes(max(self._left(self._judging.trainings).seconds / 60, 0.1))
        progress.say(
            f"The head alone reaches {self._accuracy_in_folds:.3f} in cross-validation. A network "
            f"that may be better is tried, for about {about} if it pays: {plan} (--minutes 0 skips "
            "it)."
        )
        outcome = self._try(plan, extractor)
        return after_trial(outcome, plan, most, settings.minutes)

    def _planned(
        self, most: TrainingPlan, network: keras.Model, here: float
    ) -> tuple[TrainingPlan | None, float]:
        """Return the plan that the minutes allow, and how many minutes the smallest one takes.

        `most` has all views and epochs of the settings; `here` are the seconds of a forward pass of
        one view on this machine.
        """
        given = self._inputs.settings.minutes
        judging = self._judging
        # Where one network judges and there is no clock, that of all images is not counted: it
        # takes as long again, but only where this pays.
        counted = judging.parts if given is None and len(judging.parts) == 1 else judging.trainings
        if given is None:  # the images decide
            distinct = np.union1d(judging.whole.training.hashes, judging.whole.held_out.hashes)
            minutes = _PLANNED_SHARE * nominal_minutes(len(distinct))
            seconds = nominal_seconds_a_view(network, self._inputs.settings.size)
        else:
            minutes = _PLANNED_SHARE_OF_GIVEN * given
            seconds = here
        minutes_a_pass = seconds * images_of(counted) / 60
        plan = most.within(minutes / minutes_a_pass)
        return plan, most.smallest().passes() * minutes_a_pass

    def _left(self, parts: Iterable[Part]) -> TimeLeft:
        """Return how long the training on some parts takes, or may take."""
        if self._until < math.inf:
            return TimeLeft(self._until - time.monotonic(), is_limit=True)
        return TimeLeft(self._image_seconds * images_of(parts), is_limit=False)

    def _try(self, plan: TrainingPlan, extractor: FeatureExtractor) -> Outcome:
        """Train by a plan, and keep the network if it is better by more than chance.

        A third of the work, a smaller training or one of three folds, shows whether that may be. If
        the images of a fold have shown it, they decide with those of validation, which are few.
        """
        started = time.monotonic()
        trial = plan.trial()
        steps = [(plan, self._judging.parts)]
        if len(self._judging.parts) == 1 and trial != plan:
            steps.insert(0, (trial, [self._judging.trial()]))
        _, first_parts = steps[0]
        outcome: Outcome = "judged"
        compared: list[tuple[Scores, Scores]] = []
        try:
            for trained, parts in steps:
                tried: Tried = {**self._tried[0], "what": str(trained), "accuracy": None}
                networks, outcome = self._fitted_parts(trained, parts, extractor)
                if outcome == "late":
                    return outcome
                after, before = _answers(networks, parts)
                tried = self._compared(trained, parts, after, before)
                if tried["judged_by"] == "folds" and len(networks) < NETWORK_FOLDS:
                    tried["what"] += f", in {len(networks)} of {NETWORK_FOLDS} folds"
                new, old = after.scores(), before.scores()
                if first_parts[0] is self._judging.parts[0]:  # the same images
                    compared.clear()
                compared.append((new, old))
                if outcome != "judged":
                    break
                if trained != plan and new.losses.mean() >= old.losses.mean():
                    outcome = "early"
                    break
            of_all = [Scores.joined(scores) for scores in zip(*compared, strict=True)]
            if outcome != "early" and better(of_all[0], of_all[1]):
                self._keep(networks, self._shipped(plan, extractor, networks))
        except Diverged:
            tried["failure"] = "diverged"
        except Exception as error:
            tried["failure"] = process.lacking(error)  # the head needs no more
            if tried["failure"] is None:
                raise
        tried["kept"] = self._result is not self._head
        self._tried[0]["kept"] = not tried["kept"]
        tried["seconds"] = round(time.monotonic() - started, 1)
        self._tried.append(tried)
        progress.say(describe_tried(tried))
        return outcome

    def _fitted_parts(
        self, plan: TrainingPlan, parts: Sequence[Part], extractor: FeatureExtractor
    ) -> tuple[list[Trained], Outcome]:
        """Train the network of each part, as long as they may be better than the heads."""
        started = time.monotonic()
        networks: list[Trained] = []
        count = len(parts)
        for number, part in enumerate(parts, 1):
            name = f"fold {number} of {count}" if count > 1 else "a network"
            progress.part(name, self._left(self._judging.trainings[number - 1 :]))
            network = self._fitted(plan, extractor, part, lambda: time.monotonic() > self._until)
            if network is None:
                return networks, "late"
            networks.append(network)
            if network.history["stopped"] == "minutes":
                # What stands for the network that ships must be trained to its end.
                return networks, "late" if self._judging.ships_another else "stopped"
            if number < count:
                passed = time.monotonic() - started
                self._image_seconds = passed / images_of(parts[:number])
                after, before = _answers(networks, parts)
                if not gains(after.scores(), before.scores(), share=number / count):
                    return networks, "early"
        return networks, "judged"

    def _shipped(
        self, plan: TrainingPlan, extractor: FeatureExtractor, networks: Sequence[Trained]
    ) -> Trained:
        """Return the network that is shipped, for which those that were judged have answered.

        It takes the time that it needs: trained only in part, nothing would judge it.
        """
        if not self._judging.ships_another:
            return networks[0]
        progress.part("the network of all images", self._left([self._judging.whole]))
        whole = self._fitted(plan, extractor, self._judging.whole, lambda: False)
        if whole is None:
            raise RuntimeError("expected a network, since this training has no limit of time")
        # The curve of validation shows images that this network has learned from.
        epochs: list[Epoch] = [
            {**epoch, "val_loss": None, "val_accuracy": None} for epoch in whole.history["epochs"]
        ]
        answers = Answers.joined([network.answers for network in networks])
        history: NetworkHistory = {**whole.history, "epochs": epochs}
        by_folds = self._judging.by == "folds"
        return replace(whole, answers=answers, by_folds=by_folds, history=history)

    def _fitted(
        self, plan: TrainingPlan, extractor: FeatureExtractor, part: Part, over: Callable[[], bool]
    ) -> Trained | None:
        """Trains the network of a part, from its head on; see `stages.train_above_cut`."""
        log_dir = None
        if part is self._judging.whole and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / "search"
        settings = plan.settings(self._inputs.settings).second_stage()
        # The network that is shipped is trained like those that stand for it.
        watch = Watch(over, keep_last=self._judging.ships_another)
        classes = self._inputs.classes
        return stages.train_above_cut(
            part, classes, settings, extractor, plan.views, watch, log_dir
        )

    def _compared(
        self, plan: TrainingPlan, parts: Sequence[Part], after: Answers, before: Answers
    ) -> Tried:
        """Return the record of networks that a plan has trained, beside the heads of their parts.

        `after` and `before` are for the same images in the same order.
        """
        corrections = after.right.astype(float) - before.right
        judged_by: JudgedBy = self._judging.by if parts[0] is self._judging.parts[0] else "folds"
        return {
            **self._tried[0],
            "what": str(plan),
            "judged_by": judged_by,
            "accuracy": after.accuracy,
            "gain": float(corrections.mean()),
            "standard_error": standard_error(corrections, before.groups),
        }

    def _keep(self, networks: Sequence[Trained], shipped: Trained) -> None:
        """Let a network be the result instead of the head."""
        of_head: NetworkHistory = {
            **self._judging.whole.best.history,
            "solution": self._head.history["solution"],
            "cross_validation": None,
        }
        head = replace(self._judging.whole.best, answers=self._before, history=of_head)
        history = stages.fine_tuned_history(head, shipped)
        folds_of_head = self._head.history["cross_validation"]
        if shipped.by_folds and folds_of_head:  # the folds decide
            parts = zip(networks, self._judging.parts, strict=True)
            answers = [(network.answers, len(part.training)) for network, part in parts]
            history["cross_validation"] = summary(
                answers,
                folds_of_head["automatic"],
                folds_of_head["validation_images"],
                folds_of_head["alike_apart"],
            )
        self._result = replace(shipped, history=history, features=self._inputs.settings.features)


def _answers(networks: Sequence[Trained], parts: Sequence[Part]) -> tuple[Answers, Answers]:
    """Return the answers of networks, and of the heads of their parts, of which there may be more.

    Both are for the same images in the same order.
    """
    heads = [part.best for part in parts[: len(networks)]]
    after, before = (
        Answers.joined([each.answers for each in trained]) for trained in (networks, heads)
    )
    return after, before
