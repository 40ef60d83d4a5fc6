"""Stages of training: the head on the bank, the layers above a cut, or the whole network.

Each stage returns a `Trained`: Keras layers with weights, which `classifier.build_classifier` finds
by name, and the answers for the validation split.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import keras
import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Flags, Floats
from imgpipe.models.backbones import layer_graph
from imgpipe.models.errors import ResourceError
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.bank import BankRows, read_facts, read_rows
from imgpipe.models.features.extractor import FeatureExtractor, resolve_precision
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.features.rows import Labelled
from imgpipe.models.head import learned
from imgpipe.models.head.answers import Answers
from imgpipe.models.head.calibration import calibrated_losses
from imgpipe.models.head.learned import Learned
from imgpipe.models.head.solved_head import HeadSolver
from imgpipe.models.machine import progress
from imgpipe.models.machine.process import has_gpu
from imgpipe.models.network.classifier import (
    add_head,
    backbone_of,
    build_features,
    build_head,
)
from imgpipe.models.settings.settings import Settings
from imgpipe.models.training import datasets, fast_layers
from imgpipe.models.training.history import FineTuned, NetworkHistory
from imgpipe.models.training.training_loop import (
    Fit,
    Judge,
    Training,
    require_rows,
    solve_head,
)

#: The name in the history for a training of the head on stored features.
HEAD: Final = "head"


@dataclass(frozen=True)
class Inputs:
    """Inputs of a training.

    Attributes:
        settings: Settings of network and training.
        classes: Number of classes.
        bank_uri: URI of the artifact of FeatureBank.
        train_files: File patterns of the image examples of split train.
        validation_files: File patterns of the image examples of split validation.
        log_dir: Folder for TensorBoard's event files; None writes none.
        folds: Number of folds that judge a solved head, so that it may learn from validation; 0 for
            none, and `section.AUTOMATIC` for `folds.FOLDS` where folds may judge; see
            `judging.head_from_both_splits`.
    """

    settings: Settings
    classes: int
    bank_uri: str
    train_files: Sequence[str]
    validation_files: Sequence[str]
    log_dir: Path | None = None
    folds: int = 0


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes:
        layers: The trained layers with their weights.
        answers: Answers for the validation images; with `by_folds`, for those of train, too.
        history: How the network was trained.
        distribution: Distribution of the network's features; None when it is not known yet.
        features: What its head reads, as the setting names it; "" is that of the settings.
        by_folds: Whether the answers are out of fold: each was given by a network that was trained
            in the same way without the image. The network itself may have learned from it.
    """

    layers: keras.Model
    answers: Answers
    history: NetworkHistory
    distribution: FeatureDistribution | None = None
    features: str = ""
    by_folds: bool = False


@dataclass(frozen=True)
class Part:
    """Images to train on, images to judge on, and the best network so far."""

    training: Labelled
    held_out: Labelled
    best: Trained  # on `training` alone, with its answers for `held_out`
    start: keras.Model | None = None  # layers with the first weights; None for those of `best`
    #: Images by which the best epoch is chosen; None for the last one. Images that judge a network
    #: afterwards, for another one that ships, would judge it too well, and a few cannot choose.
    choosing: Labelled | None = None


def train(inputs: Inputs) -> Trained:
    """Trains in the stages that the settings ask for and the content of the bank allows.

    Returns:
        The trained layers of the last stage.

    Raises:
        DataRefused: A split has no labelled image.
        Diverged: A stage found no finite loss.
        ResourceError: There is no space for the activations of the images.
    """
    facts = read_facts(inputs.bank_uri)
    # Where the bank holds no features, `note` says why.
    head = _head(inputs) if facts["sizes"] else _on_images(inputs, facts["note"])
    if inputs.settings.course.fine_tune.mode != "on":
        return head
    tuned = _fine_tuned(inputs, head, facts["precision"])
    return replace(tuned, history=fine_tuned_history(head, tuned))


def fine_tuned_history(head: Trained, tuned: Trained) -> NetworkHistory:
    """Return the history of a network that was fine-tuned from a head."""
    fine_tune: FineTuned = {
        "epochs": tuned.history["epochs"],
        "best_epoch": tuned.history["best_epoch"],
        "stopped": tuned.history["stopped"],
        "seconds": tuned.history["seconds"],
        "trained": tuned.history["trained"],
        "head_accuracy": head.answers.accuracy,
        "accuracy": tuned.answers.accuracy,
    }
    return {
        **head.history,
        "fine_tune": fine_tune,
        "trained": tuned.history["trained"],
        "reproducible": tuned.history["reproducible"],
    }


def _head(inputs: Inputs) -> Trained:
    """Solves the head on the features of the bank, or trains it on them by epochs."""
    settings = inputs.settings
    classes = inputs.classes
    training, validation = read_splits(inputs)
    judging = validation.select(is_new(training, validation))
    progress.part("the head")
    if settings.solved:
        head = fitted_head(HeadSolver(training, classes, settings), judging, learning_curve=True)
    else:
        build = functools.partial(build_head, training.features.shape[1], classes, settings)
        rows, held_out = (datasets.Rows.of(part) for part in (training, validation))
        by_epochs = Training(build, classes, settings)
        fitted = by_epochs.fit(rows, held_out, settings.course.epochs, log_dir=inputs.log_dir)
        images = int(training.is_view_0.sum())
        head = _with_answers(fitted, datasets.Rows.of(judging), HEAD, images)
    return replace(head, distribution=row_distribution(training, validation))


def read_splits(inputs: Inputs) -> tuple[BankRows, BankRows]:
    """Read the rows of train, with all views, and those of validation.

    A DataRefused says that a split has none.
    """
    training = read_rows(inputs.bank_uri, names.TRAIN, inputs.classes, inputs.settings.views.count)
    validation = read_rows(inputs.bank_uri, names.VALIDATION, inputs.classes, 0)
    require_rows(training, names.TRAIN)
    require_rows(validation, names.VALIDATION)
    return training, validation


def is_new(training: BankRows, validation: BankRows) -> Flags:
    """Return whether train has no image of the family of each row: only such rows judge."""
    learned = Learned.of(training.hashes, training.groups)
    return ~learned.knows(validation.hashes, validation.groups)


def row_distribution(training: BankRows, validation: BankRows) -> FeatureDistribution | None:
    """Return the distribution of the features of the first block; None if these are too many."""
    first = [part.first_block() for part in (training, validation)]
    if first[0].features.shape[1] > feature_distribution.LONGEST:  # which may not fit into memory
        return None
    learned, held_out = (part.sample_of_view_0(feature_distribution.MOST) for part in first)
    alone = feature_distribution.fit(
        learned.features, learned.labels, held_out.features, learned.groups
    )
    if alone is not None:
        return alone
    # Of very few images, those of validation are needed, too; all are then held out in turn.
    both = BankRows.joined([learned, held_out])
    return feature_distribution.fit(both.features, both.labels, both.features[:0], both.groups)


def fitted_head(
    solver: HeadSolver, held: BankRows | None = None, learning_curve: bool = False
) -> Trained:
    """Solves a head as that of the run, with its answers for the rows `held`; see `solve_head`."""
    train = solver.rows
    fitted = solve_head(solver, held, learning_curve)
    held = train.select(np.arange(0)) if held is None else held
    head = _with_answers(fitted, datasets.Rows.of(held), HEAD, int(train.is_view_0.sum()))
    learnable = np.isin(held.labels, train.labels)
    return replace(head, answers=replace(head.answers, learnable=learnable))


def _fine_tuned(inputs: Inputs, head: Trained, precision: str) -> Trained:
    """Trains the layers above the cut, from the weights of `head` on."""
    settings = inputs.settings.second_stage()
    cut = settings.course.fine_tune.cut or layer_graph.usual_cut(backbone_of(settings))
    training = Labelled.read(inputs.train_files)
    validation = Labelled.read(inputs.validation_files)
    judging = validation.select(np.isin(validation.hashes, np.asarray(head.answers.hashes)))
    part = Part(training, judging, head, choosing=validation)
    extractor = FeatureExtractor(settings, precision, cut)
    views = settings.views.count
    images = Labelled.read([*inputs.train_files, *inputs.validation_files])
    if not datasets.have_space(extractor, len(images), views):
        raise ResourceError(
            f"fine_tune: the activations of {len(images):,} images and {views} views of "
            f"each above {cut} would take more than a quarter of the free space in "
            f"{tempfile.gettempdir()}. Free some space, choose a higher cut (course.fine_tune.cut) "
            "or fewer views (course.views.count), or let TMPDIR name a folder on another disk"
        )
    above_cut = AboveCut(inputs.classes, settings, datasets.Activations(images, extractor, views))
    log_dir = inputs.log_dir and inputs.log_dir / "fine_tune"
    return above_cut.trained(part, settings.course.epochs, views, log_dir=log_dir)


class AboveCut:
    """Trains the layers above a cut, on activations that are computed once for each view.

    The network is built and traced once for all trainings.
    """

    def __init__(self, classes: int, settings: Settings, activations: datasets.Activations) -> None:
        self._activations = activations
        build = functools.partial(network, classes, settings, activations.extractor.layer)
        self._training = Training(build, classes, settings)

    def trained(
        self,
        part: Part,
        epochs: int,
        views: int,
        log_dir: Path | None = None,
    ) -> Trained:
        """Trains the network for some epochs, on so many views of each image of a part.

        It begins with the head of the part; the next training changes the layers.
        """
        training = self._activations.rows(part.training, views)
        held_out = self._activations.rows(part.held_out, 0)
        choosing = None if part.choosing is None else self._activations.rows(part.choosing, 0)
        start = part.start or part.best.layers

        judge = None if choosing is None else _calibrated_loss(choosing)
        fitted = self._training.fit(training, choosing, epochs, judge, log_dir, start)
        what = f"layers {fitted.layers.name.replace('_', ' ', 1)}"  # "above_block11" is two words
        tuned = _with_answers(fitted, held_out, what, len(part.training))
        learnable = part.best.answers.learnable if len(held_out) else None
        return replace(tuned, answers=replace(tuned.answers, learnable=learnable))


def _calibrated_loss(rows: datasets.Rows) -> Judge:
    """Return the loss on some rows by which the epochs of a fine-tuning are compared.

    A network that is fine-tuned on few images becomes too sure of itself: its loss rises from epoch
    to epoch while its accuracy still rises. The temperature corrects that before it is served.
    """

    def loss(model: keras.Model) -> float:
        return float(calibrated_losses(_logits(model, rows), rows.labels).mean())

    return loss


def _on_images(inputs: Inputs, note: str) -> Trained:
    """Trains all trainable layers on images that are augmented anew in each epoch."""
    settings = inputs.settings
    classes = inputs.classes
    training, validation = (
        datasets.pixels(files, settings.size, classes, settings.views)
        for files in (inputs.train_files, inputs.validation_files)
    )
    on_images = Training(functools.partial(network, classes, settings), classes, settings)
    fitted = on_images.fit(training, validation, settings.course.epochs, log_dir=inputs.log_dir)
    what = "head" if settings.frozen else "all layers"
    judging = validation.select(~training.learned.knows(validation.hashes, validation.families))
    return _with_answers(fitted, judging, f"{what}, on the fly ({note})", len(training.labels))


def network(classes: int, settings: Settings, cut: str = "") -> keras.Model:
    """Return the network to logits, with layers that train fast on this machine.

    The settings determine the layers that are trained. With a cut, the network begins at the
    activations of this layer, and all of its layers are trained.
    """
    pixels, maps, features = build_features(settings, not settings.frozen)
    logits = add_head(features, classes, settings)
    start = pixels
    name = "whole"
    if cut:
        backbone = keras.Model(pixels, maps)
        for layer in layer_graph.layers_above(backbone, cut):
            layer.trainable = True
        start = layer_graph.layer_at(backbone, cut).outputs[0]
        name = f"above_{start._keras_history.operation.name}"
    model = keras.Model(start, logits, name=name)
    if has_gpu():
        return model
    automatic = settings.train.precision == "auto"
    bfloat16 = automatic and resolve_precision("auto") == "bfloat16"
    return fast_layers.accelerated(model, bfloat16)


def _with_answers(fitted: Fit, held_out: datasets.Rows, trained: str, images: int) -> Trained:
    """Return the fitted model, in float32, with its answers for held-out images, which judge.

    The history names what was trained, and the number of images of train that it was trained on.

    Raises:
        RuntimeError: The weights have learned from such images, which is a defect of the program.
    """
    layers = fast_layers.exact(fitted.layers)
    of_weights = learned.of_weights(layers.get_weights())
    of_weights.require_unseen(held_out.hashes, held_out.families, trained)
    answers = Answers(
        _logits(layers, held_out),
        held_out.labels,
        held_out.families,
        hashes=held_out.hashes,
        trained_on=images,
    )
    history: NetworkHistory = {
        **fitted.stage,
        "trained": trained,
        "solution": fitted.solution,
        "fine_tune": None,
        "learned": {names.TRAIN: images},
        "cross_validation": None,
        "search": None,
        "search_ended": None,
        "reproducible": "plan" if has_gpu() else "weights",
    }
    return Trained(layers, answers, history)


def _logits(model: keras.Model, rows: datasets.Rows) -> Floats:
    """Return the logits of all rows, [n, C]."""
    import tensorflow as tf

    if not len(rows):
        return np.empty((0, model.outputs[0].shape[-1]), np.float32)

    # To trace the layers takes less time than to call each of them for a few batches.
    answered = tf.function(
        lambda inputs: model(inputs, training=False),
        input_signature=[tf.TensorSpec(model.inputs[0].shape, tf.float32)],
        autograph=False,
        jit_compile=False,
    )
    dataset = datasets.validation(rows, model.outputs[0].shape[-1])
    return np.concatenate([answered(inputs).numpy() for inputs, _ in dataset])
