"""Stages of training: the head on the bank, the layers above a cut, or the whole network.

Each stage returns a `Trained`: Keras layers with weights, which `classifier.build_classifier` finds
by name, and the logits of the validation split. In the mode "auto", fine-tuning never replaces the
head by a worse network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import feature_names as names
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.bank import BankFacts, BankRows, open_split, read_facts
from imgpipe.models.features.extractor import FeatureExtractor, has_gpu, resolve_precision
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.head.calibration import calibrated_losses, cross_entropies
from imgpipe.models.head.solved_head import Groups
from imgpipe.models.network import cuts
from imgpipe.models.network.classifier import build_parts, copy_weights
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import datasets, images
from imgpipe.models.training.checkpoints import Checkpoint
from imgpipe.models.training.fresh_activations import (
    LabelledImages,
    fresh_activations,
    most_views,
)
from imgpipe.models.training.training_loop import Diverged, Fit, fit, fit_head

if TYPE_CHECKING:
    import keras


#: The name in the history for a training of the head on stored features.
HEAD: Final = "head"

#: Settings that are used only after the stages, so that a checkpoint does not depend on them.
_AFTERWARDS: Final = {"name", "unknown_rate", "temperature", "minutes"}

#: Labels [n] of the rows of a split, and their identities [n], which are hashes or seeds.
Identified = tuple[npt.NDArray[np.int64], npt.NDArray[Any]]


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
        resume_dir: Folder for checkpoints of interrupted trainings; None writes none.
        source_hash: Hash of the source code.
    """

    settings: ModelSettings
    classes: int
    bank_uri: str
    train_files: Sequence[str]
    validation_files: Sequence[str]
    log_dir: Path | None = None
    resume_dir: Path | None = None
    source_hash: str = ""

    def checkpoint(self, stage: str, made_by: str, *splits: Identified) -> Checkpoint | None:
        """Return the checkpoint of a stage, whose key depends on everything that determines it.

        With several workers there is none, since they would have to agree on the epoch at which to
        resume.

        Args:
            stage: Name of the stage.
            made_by: Fingerprint of the stored inputs; see `bank.BankFacts`.
            *splits: Labels and identities of the rows of each split.
        """
        if self.resume_dir is None or self.settings.strategy == "multi_worker":
            return None
        weights = self.settings.backbone_spec().key()
        settings = {k: v for k, v in asdict(self.settings).items() if k not in _AFTERWARDS}
        parts = [stage, made_by, weights, settings, self.classes, self.source_hash]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        for labels, identities in splits:
            digest.update(repr((labels.shape, identities.dtype)).encode())
            digest.update(labels.tobytes())
            digest.update(identities.tobytes())
        key = digest.hexdigest()
        return Checkpoint(self.resume_dir / f"{stage}-{key[:16]}.npz", key)


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes:
        layers: The trained layers with their weights.
        logits: Logits of the validation images, float32 [n, C].
        labels: Label indices of the validation images, int64 [n].
        history: Content of history.json.
        distribution: Distribution of the network's features; None when it is not known yet.
        image_size: Side in pixels of the images that the network sees; 0 is that of the settings.
        groups: Number of the group of each validation image, [n]; None if it is not known.
        by_folds: Logits [m, C] and labels [m] of the images of train and validation, each of which
            was answered by a network that was trained in the same way without it. None without
            such networks.
    """

    layers: keras.Model
    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    history: dict[str, Any]
    distribution: FeatureDistribution | None = None
    image_size: int = 0
    groups: Groups | None = None
    by_folds: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None = None

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the label of each validation image is predicted correctly, bool [n]."""
        return np.asarray(self.logits.argmax(axis=1) == self.labels)


def train(inputs: Inputs) -> Trained:
    """Trains in the stages that the settings ask for and the content of the bank allows.

    Args:
        inputs: Inputs of the training.

    Returns:
        The trained layers, which are those of the better stage in the mode "auto".

    Raises:
        DataRefused: A split has no labelled image.
    """
    facts = read_facts(inputs.bank_uri)
    if not facts.dim:  # the bank holds no features; `facts.note` says why
        first = _on_images(inputs, facts)
        return _and_fine_tuned(inputs, first, lambda: _on_images(inputs, facts, first))
    with contextlib.ExitStack() as opened:
        most_view = {names.TRAIN: inputs.settings.views.count, names.VALIDATION: 0}
        rows = {
            split: opened.enter_context(open_split(inputs.bank_uri, split, inputs.classes, view))
            for split, view in most_view.items()
        }
        head = _head(inputs, facts, rows)
    # Outside of the block, which has freed the features that this stage does not need.
    return _and_fine_tuned(inputs, head, lambda: _fine_tuned(inputs, facts, head))


def _and_fine_tuned(inputs: Inputs, head: Trained, tune: Callable[[], Trained]) -> Trained:
    """Return the head or the fine-tuned network, as the settings demand."""
    if not inputs.settings.fine_tune.wanted:
        return head
    try:
        return _better(inputs, head, tune())
    except Diverged:
        if inputs.settings.fine_tune.mode == "on":  # "auto" still has the head
            raise
        diverged = {"epochs": [], "stopped": "diverged", "helped": False, "shipped": False}
        return replace(head, history={**head.history, "fine_tune": diverged})


def _head(inputs: Inputs, facts: BankFacts, rows: dict[str, BankRows]) -> Trained:
    """Trains the head on the features of the bank."""
    training, validation = rows[names.TRAIN], rows[names.VALIDATION]
    identified = [(part.labels, part.hashes.digest()) for part in rows.values()]
    found = fit_head(
        training,
        validation,
        inputs.classes,
        inputs.settings,
        inputs.log_dir,
        inputs.checkpoint("head", facts.made_by, *identified),
    )
    head = judged(found, datasets.Vectors(validation.features, validation.labels), HEAD)
    head = replace(head, groups=validation.groups.numbers)
    if training.features.shape[1] > feature_distribution.LONGEST:  # which may not fit into memory
        return head
    clean, held_out = (part.some_clean(feature_distribution.MOST) for part in rows.values())
    distribution = feature_distribution.fit(
        np.asarray(clean.features), clean.labels, held_out.features, clean.groups.numbers
    )
    return replace(head, distribution=distribution)


def extractor_at(inputs: Inputs, settings: ModelSettings, cut: str) -> FeatureExtractor:
    """Return the extractor of the activations at a cut.

    Args:
        inputs: Inputs of the training.
        settings: Settings of the network.
        cut: Layer or block at which the network is cut.
    """
    precision = read_facts(inputs.bank_uri).precision
    backbone, views = settings.backbone_spec(), settings.views
    return FeatureExtractor(backbone, settings.size, precision, views, settings.pooling, cut)


def _fine_tuned(inputs: Inputs, facts: BankFacts, head: Trained) -> Trained:
    """Trains the layers above the cut on activations at it, from the weights of `head` on.

    If the activations would take too much space, the layers are trained on images.
    """
    settings, cut, log_dir = _second_stage(inputs)
    extractor, views = extractor_at(inputs, inputs.settings, cut), inputs.settings.views.count
    splits = [LabelledImages.of(files) for files in (inputs.train_files, inputs.validation_files)]
    if most_views(extractor, len(splits[0].labels)) < views:
        note = "the activations would take more than a quarter of the free space"
        return _on_images(inputs, replace(facts, note=note), head)
    with (
        fresh_activations(splits[0], extractor, views) as training,
        fresh_activations(splits[1], extractor, 0) as validation,
    ):
        found = fit(
            lambda: above_cut(inputs.classes, settings, cut, head.layers),
            training,
            validation,
            inputs.classes,
            settings,
            log_dir,
            inputs.checkpoint(
                "fine_tune", facts.made_by, *((part.labels, part.hashes) for part in splits)
            ),
            judge=calibrated_loss_on(validation),
        )
        return judged(found, validation, _above_what(found))


def _on_images(inputs: Inputs, facts: BankFacts, head: Trained | None = None) -> Trained:
    """Trains on images that are augmented anew in each epoch.

    Without a head, all trainable layers are trained. With one, the layers above the cut are trained
    from its weights on; the layers below the cut then run in every epoch.
    """
    stage, settings, log_dir = "whole", inputs.settings, inputs.log_dir
    cut: str | None = None
    if head is not None:
        stage = "fine_tune"
        settings, cut, log_dir = _second_stage(inputs)
    size, classes = settings.size, inputs.classes
    with (
        images.decoded(inputs.train_files, size, classes, settings.views) as training,
        images.decoded(inputs.validation_files, size, classes, settings.views) as validation,
    ):
        seeded = [(split.labels, split.seeds) for split in (training, validation)]
        found = fit(
            lambda: whole(classes, settings, cut, None if head is None else head.layers),
            training,
            validation,
            classes,
            settings,
            log_dir,
            inputs.checkpoint(stage, facts.made_by, *seeded),
            judge=None if head is None else calibrated_loss_on(validation),
        )
        what = "head" if settings.frozen else "all layers"
        if head is not None:
            what = _above_what(found)
        return judged(found, validation, f"{what}, on the fly ({facts.note})")


def _second_stage(inputs: Inputs) -> tuple[ModelSettings, str, Path | None]:
    """Return the settings, the cut and the folder for log of fine-tuning."""
    settings = inputs.settings.second_stage()
    log_dir = inputs.log_dir and inputs.log_dir / "fine_tune"
    return settings, settings.fine_tune.cut or cuts.USUAL, log_dir


def _above_what(found: Fit) -> str:
    """Describe what fine-tuning trained, based on the name of the model."""
    return f"layers {found.head.name.replace('_', ' ', 1)}"  # "above_block11" becomes two words


def _better(inputs: Inputs, head: Trained, tuned: Trained) -> Trained:
    """Return the better of the two networks, with the history of both."""
    first, second = _score(head), _score(tuned)
    helped = second > first
    ships = helped or inputs.settings.fine_tune.mode == "on"
    fine_tune = {
        **tuned.history,
        "helped": helped,
        "shipped": ships,
        "head_accuracy": first[0],
        "accuracy": second[0],
    }
    history = {**head.history, "fine_tune": fine_tune}
    if not ships:
        return replace(head, history=history)
    return replace(tuned, history={**history, "trained": tuned.history["trained"]})


def _score(trained: Trained) -> tuple[float, float]:
    """Return (accuracy, minus loss) on validation; the loss decides if accuracies are equal."""
    losses = cross_entropies(trained.logits, trained.labels)
    return float(trained.right.mean()), -float(losses.mean())


def whole(
    classes: int,
    settings: ModelSettings,
    cut: str | None = None,
    head: keras.Model | None = None,
) -> keras.Model:
    """Return the network from pixels to logits. The settings determine which layers are trained.

    Args:
        classes: Number of classes.
        settings: Settings of the network.
        cut: Layer above which all layers are trained, even if the settings freeze them.
        head: Head with the initial weights of the network's head; None for new weights.
    """
    pixels, logits, activations = _cut(classes, settings, cut, head)
    return _trainable(pixels, logits, _above(activations) if cut else "whole", settings)


def above_cut(
    classes: int, settings: ModelSettings, cut: str, head: keras.Model | None = None
) -> keras.Model:
    """Return the network from the activations at a cut to logits; all of its layers are trained.

    Args:
        classes: Number of classes.
        settings: Settings of the network.
        cut: Layer at which the network is cut.
        head: Head with the initial weights of the network's head; None for new weights.
    """
    _, logits, activations = _cut(classes, settings, cut, head)
    return _trainable(activations, logits, _above(activations), settings)


def _trainable(
    start: keras.KerasTensor, logits: keras.KerasTensor, name: str, settings: ModelSettings
) -> keras.Model:
    """Return the model from `start` to the logits, with layers that train fast on this machine."""
    import keras

    from imgpipe.models.training import fast_layers  # imports Keras

    model = keras.Model(start, logits, name=name)
    if has_gpu():
        return model
    automatic = settings.precision == "auto"
    bfloat16 = automatic and resolve_precision("auto") == "bfloat16"
    return fast_layers.accelerated(model, bfloat16)


def _above(activations: keras.KerasTensor) -> str:
    """Return the name of a model, which tells above which layer it begins."""
    return f"above_{activations._keras_history.operation.name}"


def _cut(
    classes: int, settings: ModelSettings, cut: str | None, head: keras.Model | None
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
    """Return the pixels, the logits and the activations at the cut, or the pixels without one."""
    import keras

    parts = build_parts(classes, settings)
    if head is not None:  # from random weights of the head, its gradients would spoil the layers
        copy_weights(head, keras.Model(parts.pixels, parts.logits))
    if cut is None:
        return parts.pixels, parts.logits, parts.pixels
    backbone = keras.Model(parts.pixels, parts.feature_map)
    for layer in cuts.above(backbone, cut):
        layer.trainable = True
    return parts.pixels, parts.logits, cuts.layer_at(backbone, cut).outputs[0]


def judged(found: Fit, validation: datasets.Rows, trained: str) -> Trained:
    """Return the fitted model with its logits of the validation split.

    Args:
        found: The fitted model.
        validation: Rows of the validation split.
        trained: Description of what was trained, for the history.
    """
    from imgpipe.models.training import fast_layers  # imports Keras

    history = {**found.history(), "trained": trained}
    layers = fast_layers.exact(found.head)
    return Trained(layers, _logits(layers, validation), validation.labels, history)


def calibrated_loss_on(validation: datasets.Rows) -> Callable[[keras.Model], float]:
    """Return a function from a network to its loss on validation with the best temperature.

    A network that is fine-tuned on few images becomes too sure of itself: its loss rises from epoch
    to epoch while its accuracy still rises. The temperature corrects that before it is served.

    Args:
        validation: Rows of the validation split.
    """

    def loss(model: keras.Model) -> float:
        return float(calibrated_losses(_logits(model, validation), validation.labels).mean())

    return loss


def _logits(model: keras.Model, rows: datasets.Rows) -> npt.NDArray[np.float32]:
    """Return the logits of all rows, [n, C]."""
    dataset = datasets.validation(rows, model.outputs[0].shape[-1])
    return np.concatenate([model(inputs, training=False).numpy() for inputs, _ in dataset])
