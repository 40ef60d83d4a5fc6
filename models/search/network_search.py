"""Searches for a network that is better than the solved head.

The solved head is found within seconds. If its folds show that it falls short, layers below it are
trained too. How many views and epochs follows from the data, or from minutes that a person gives.
The training ends early if it shows no gain. The network is kept only if it is better than the head
on held-out images by more than chance. The test split is never used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from imgpipe.models.errors import Diverged
from imgpipe.models.features.bank import read_facts
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.models.features.folds import ENOUGH, FEWEST_MISTAKES
from imgpipe.models.features.rows import Labelled
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.head import learned
from imgpipe.models.head.answers import Answers, Scores, better, gains
from imgpipe.models.head.certainty import standard_error
from imgpipe.models.machine import process, progress
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.search.judging import (
    NETWORK_FOLDS,
    Judging,
    head_from_both_splits,
    images_of,
    judging_parts,
)
from imgpipe.models.search.training_plan import (
    TrainingPlan,
    costly,
    few_images,
    few_mistakes,
    head_is_enough,
    in_minutes,
    no_gain,
    no_space,
    nominal_minutes,
    nominal_seconds_a_view,
    training_plan,
    whole_plan,
    with_search,
)
from imgpipe.models.training import datasets, stages
from imgpipe.models.training.history import (
    JudgedBy,
    NetworkHistory,
    Tried,
    describe_tried,
    summary,
)
from imgpipe.models.training.stages import AboveCut, Inputs, Part, Trained

if TYPE_CHECKING:
    import keras

_PLANNED_SHARE: Final = 0.9  # of the minutes, for which a training is planned
#: Up to this number of images there is no search unless minutes are given: in a minute, a network
#: takes too few steps to become better than the head.
_FEW: Final = 500


def train(inputs: Inputs) -> Trained:
    """Trains in stages, and searches if the settings ask for it and the head falls short.

    Returns:
        The best network, with the search in its history.

    Raises:
        DataRefused: A split has no labelled image.
    """
    learned.forget()  # what another run of this process has trained
    head = head_from_both_splits(inputs) or stages.train(inputs)
    solution = head.history["solution"]
    if not inputs.settings.searches or solution is None or solution["accuracy"] is None:
        return head
    accuracy = solution["accuracy"]
    images = solution["images"] or 0
    if accuracy >= ENOUGH:
        ended = head_is_enough(accuracy, head)
    elif inputs.settings.train.minutes is None and images <= _FEW:
        ended = few_images(images, _FEW)
    else:
        return _Search(inputs, head, accuracy, judging_parts(inputs, head)).run()
    tried = _tried_head(head, "folds" if head.by_folds else "validation", head.answers.accuracy)
    return with_search(head, [tried], ended)


def _tried_head(head: Trained, judged_by: JudgedBy, accuracy: float | None) -> Tried:
    """Return the record of the head, which is the result unless a network is better."""
    return {
        "what": "head (the last layer, on the features of a trained network)",
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
        self._pass_seconds = 0.0  # of one image through the whole network

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
        extractor = FeatureExtractor(most.settings(settings), precision, most.cut)
        images = Labelled.read([*self._inputs.train_files, *self._inputs.validation_files])
        self._pass_seconds = datasets.seconds_a_pass(extractor)
        plan, minutes = self._planned(most, network, len(images))
        if plan is None:
            return costly(most.smallest(), minutes, given=settings.train.minutes is not None)
        if not datasets.have_space(extractor, len(images), plan.views):
            return no_space(plan)
        about = in_minutes(max(self._seconds_left(plan, self._judging.parts) / 60, 0.1))
        progress.say(
            f"The head reaches {self._accuracy_in_folds:.3f} in cross-validation. A network "
            f"that may be better is tried, for about {about} if it pays: {plan} (--minutes 0 skips "
            "it)."
        )
        activations = datasets.Activations(images, extractor, plan.views)
        of_plan = plan.settings(settings).second_stage()
        above_cut = AboveCut(self._inputs.classes, of_plan, activations)
        if not self._try(plan, above_cut):
            return no_gain()
        return whole_plan(plan, most, settings.train.minutes)

    def _planned(
        self, most: TrainingPlan, network: keras.Model, images: int
    ) -> tuple[TrainingPlan | None, float]:
        """Return the plan that the minutes allow, and how many minutes the smallest one takes.

        `most` has all views and epochs of the settings; the images are those of both splits.
        """
        given = self._inputs.settings.train.minutes
        judging = self._judging
        # Where one network judges, that of all images is not counted: it takes as long again, but
        # only where this pays.
        counted = judging.parts if len(judging.parts) == 1 else judging.trainings
        minutes = _PLANNED_SHARE * (nominal_minutes(images) if given is None else given)
        seconds = nominal_seconds_a_view(network, self._inputs.settings.size)
        minutes_a_pass = seconds * images_of(counted) / 60
        plan = most.within(minutes / minutes_a_pass)
        return plan, most.smallest().passes() * minutes_a_pass

    def _seconds_left(self, plan: TrainingPlan, parts: Sequence[Part]) -> float:
        """Estimate how long the networks of some parts take, with that of all images."""
        passes = plan.passes() * images_of(parts)
        if self._judging.ships_another:
            passes += plan.passes() * len(self._judging.whole.training)
        return self._pass_seconds * passes

    def _try(self, plan: TrainingPlan, above_cut: AboveCut) -> bool:
        """Train by a plan, keep the network if it is better, and record it.

        Return whether all of the plan was trained, or as much as memory and disk allowed.
        """
        started = time.monotonic()
        failed: Tried = {**self._tried[0], "what": str(plan), "accuracy": None}
        complete = True
        try:
            tried, complete = self._trained(plan, above_cut)
        except Diverged:
            tried = {**failed, "failure": "diverged"}
        except Exception as error:
            failure = process.lacking(error)  # the head needs no more
            if failure is None:
                raise
            tried = {**failed, "failure": failure}
        tried["kept"] = self._result is not self._head
        self._tried[0]["kept"] = not tried["kept"]
        tried["seconds"] = round(time.monotonic() - started, 1)
        self._tried.append(tried)
        progress.say(describe_tried(tried))
        return complete

    def _trained(self, plan: TrainingPlan, above_cut: AboveCut) -> tuple[Tried, bool]:
        """Train by a plan, and keep the network if it is better by more than chance.

        Where images of a fold have shown whether that may be, they decide with those of validation,
        which are few. Return the record of the network, and whether all of the plan was trained.
        """
        parts = self._judging.parts
        shown: list[tuple[Scores, Scores]] = []
        if plan.trial() != plan:
            first = [self._judging.trial()]
            progress.part("whether a network may be better", self._seconds_left(plan, parts))
            networks = [self._fitted(above_cut, first[0], plan.trial())]
            new, old = (answers.scores() for answers in _answers(networks, first))
            if new.losses.mean() >= old.losses.mean():
                return self._compared(plan.trial(), first, networks), False
            if first[0] is not parts[0]:
                shown.append((new, old))
        networks = []
        for number, part in enumerate(parts, 1):
            name = f"fold {number} of {len(parts)}" if len(parts) > 1 else "a network"
            progress.part(name, self._seconds_left(plan, parts[number - 1 :]))
            networks.append(self._fitted(above_cut, part, plan))
            new, old = (answers.scores() for answers in _answers(networks, parts))
            if number < len(parts) and not gains(new, old, share=number / len(parts)):
                return self._compared(plan, parts, networks), False
        shown.append((new, old))
        new, old = (Scores.joined(scores) for scores in zip(*shown, strict=True))
        if better(new, old):
            self._keep(networks, self._shipped(plan, above_cut, networks))
        return self._compared(plan, parts, networks), True

    def _shipped(
        self, plan: TrainingPlan, above_cut: AboveCut, networks: Sequence[Trained]
    ) -> Trained:
        """Return the network that is shipped, for which those that were judged have answered.

        It begins with the head, as they did: with their weights, it was worse on new images.
        """
        if not self._judging.ships_another:
            return networks[-1]
        progress.part("the network of all images", self._seconds_left(plan, []))
        whole = self._fitted(above_cut, self._judging.whole, plan)
        answers = Answers.joined([network.answers for network in networks])
        return replace(whole, answers=answers, by_folds=self._judging.by == "folds")

    def _fitted(self, above_cut: AboveCut, part: Part, plan: TrainingPlan) -> Trained:
        """Train the network of a part, from its head on."""
        log_dir = None
        if part is self._judging.whole and self._inputs.log_dir:
            log_dir = self._inputs.log_dir / "search"
        return above_cut.trained(part, plan.epochs, plan.views, log_dir)

    def _compared(
        self, plan: TrainingPlan, parts: Sequence[Part], networks: Sequence[Trained]
    ) -> Tried:
        """Return the record of networks that a plan has trained, beside the heads of their parts.

        There may be fewer networks than parts.
        """
        after, before = _answers(networks, parts)
        corrections = after.right.astype(float) - before.right
        judged_by: JudgedBy = self._judging.by if parts[0] is self._judging.parts[0] else "folds"
        what = str(plan)
        if judged_by == "folds" and len(networks) < NETWORK_FOLDS:
            what += f", in {len(networks)} of {NETWORK_FOLDS} folds"
        return {
            **self._tried[0],
            "what": what,
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
            history["cross_validation"] = summary(
                [network.answers for network in networks],
                folds_of_head["automatic"],
                folds_of_head["validation_images"],
            )
        features = self._inputs.settings.model.features
        self._result = replace(shipped, history=history, features=features)


def _answers(networks: Sequence[Trained], parts: Sequence[Part]) -> tuple[Answers, Answers]:
    """Return the answers of networks, and of the heads of their parts, of which there may be more.

    Both are for the same images in the same order.
    """
    heads = [part.best for part in parts[: len(networks)]]
    after, before = (
        Answers.joined([each.answers for each in trained]) for trained in (networks, heads)
    )
    return after, before
