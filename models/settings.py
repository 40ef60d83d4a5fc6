"""Settings of the model and of its training.

Every setting stands here once, with its limits and its description: the sections [model], [train]
and [fine_tune] of the configuration are made from these dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from imgpipe.models import backbones, bounds
from imgpipe.models import feature_names as names
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.backbones import Backbone
from imgpipe.models.bounds import bounded, chosen, switch, text
from imgpipe.models.errors import ConfigError
from imgpipe.models.mixup import Mixing

ACTIVATIONS: Final = ("auto", "softmax", "sigmoid")
BALANCES: Final = ("none", "class_weights", "sampling")
FINE_TUNES: Final = ("off", "on", "auto")
FREEZES: Final = ("auto", "all", "none")
OPTIMIZERS: Final = ("adam", "adamw", "rmsprop", "sgd")
POOLINGS: Final = ("average", "max", "flatten")
PRECISIONS: Final = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
SCHEDULES: Final = ("constant", "cosine")
STRATEGIES: Final = ("none", "mirrored", "multi_worker")
TARGETS: Final = ("validation", "training")

_SCHEDULE: Final = "constant, or cosine: rises to the rate in the first twentieth, then falls to 0."


@dataclass(frozen=True)
class NetworkSettings:
    """Backbone and head."""

    backbone: str = text("efficientnet_lite0", "Name in the backbone registry.")
    weights: str = text(
        "imagenet", "imagenet, none (random) or the path of a .weights.h5, .h5 or .keras file."
    )
    weights_sha256: str = text("", "SHA-256 that a file of weights must have; empty: not asked.")
    cut: str = text("", "Layer of the backbone that gives the feature map; empty: its end.")
    width: float = bounded(1.0, "Multiplier of the filters, where there is one.", 0.01, 10)
    freeze: str = chosen(
        "auto",
        "all trains the head alone, none every layer; auto: all where the weights are trained, "
        "none where they are random.",
        FREEZES,
    )
    image_size: int = bounded(0, "Pixels, the side that the backbone sees; 0: its own.", 0, 1024)
    pooling: str = chosen(
        "average", "From feature map to features: average, max, flatten.", POOLINGS
    )
    feature_dropout: float = bounded(
        0.0, "Dropout of the features, where there is a hidden layer behind them.", 0, 0.99
    )
    hidden_units: int = bounded(0, "Units of a hidden layer; 0: a linear head.", 0, 65536)
    dropout: float = bounded(0.2, "Dropout before the last layer.", 0, 0.99)
    activation: str = chosen(
        "auto", "auto: one sigmoid unit for two classes, softmax otherwise.", ACTIVATIONS
    )
    temperature: bool = switch(True, "Divide the logits by a temperature fitted on validation.")
    unknown_rate: float = bounded(
        0.0, 'Share of validation images whose label may become "unknown"; 0: none.', 0, 0.5
    )


@dataclass(frozen=True)
class TrainSettings:
    """How the head, or the whole network, is trained."""

    optimizer: str = chosen("adam", "adam, adamw, rmsprop or sgd (momentum 0.9).", OPTIMIZERS)
    learning_rate: float = bounded(1e-3, "The optimizer's step size.", 1e-8, 10)
    schedule: str = chosen("constant", _SCHEDULE, SCHEDULES)
    batch_size: int = bounded(128, "Images or views a step.", 1, 65536)
    epochs: int = bounded(60, "Upper limit; training stops earlier on a plateau.", 1, 100_000)
    steps_per_epoch: int = bounded(
        0, "Most steps an epoch of the first stage; 0: all of the data.", 0, 10**9
    )
    patience: int = bounded(8, "Epochs without a better validation loss.", 1, 100_000)
    target_accuracy: float = bounded(
        0.0, "End the first stage once accuracy reaches this; 0: never.", 0, 1
    )
    target_on: str = chosen("validation", "Whose accuracy: validation or training.", TARGETS)
    label_smoothing: float = bounded(0.0, "Share spread over all classes.", 0, 0.99)
    balance: str = chosen(
        "none",
        "For classes of unequal size: class_weights weighs the loss, sampling draws every class "
        "as often, none does neither.",
        BALANCES,
    )
    precision: str = chosen(
        "auto",
        "Of layers trained beside the head: auto is mixed_float16 on a GPU and float32 on a CPU, "
        "where 16 bits train slower.",
        PRECISIONS,
    )
    strategy: str = chosen(
        "none", "tf.distribute: none, mirrored (GPUs of one machine), multi_worker.", STRATEGIES
    )
    seed: int = bounded(0, "Of weights, shuffling and dropout.", 0, 2**31 - 1)


@dataclass(frozen=True)
class FineTune:
    """Second stage: layers above a cut train too, from the bank's activations at the cut."""

    mode: str = chosen(
        "off", "off; on; auto keeps the outcome only where validation says it helped.", FINE_TUNES
    )
    cut: str = text("", "Layer or block (block11) above which layers train; empty: two thirds up.")
    learning_rate: float = bounded(5e-4, "The optimizer's step size.", 1e-8, 10)
    schedule: str = chosen("cosine", _SCHEDULE, SCHEDULES)
    batch_size: int = bounded(32, "Views a step.", 1, 65536)
    epochs: int = bounded(4, "Upper limit.", 1, 100_000)
    patience: int = bounded(4, "Epochs without a better validation loss.", 1, 100_000)

    def __post_init__(self) -> None:
        bounds.check("fine_tune", self)

    @property
    def wanted(self) -> bool:
        """Whether there is a second stage."""
        return self.mode != "off"


@dataclass(frozen=True)
class ModelSettings(TrainSettings, NetworkSettings):
    """Settings of a network and of its training.

    Attributes:
        name: Name of the served model.
        fine_tune: Settings of the second stage.
        views: Settings of the augmentation.
        mixing: Settings of MixUp and CutMix.
    """

    name: str = "imgpipe"
    fine_tune: FineTune = field(default_factory=FineTune)
    views: ViewSpec = field(default_factory=ViewSpec)
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        bounds.check("model", self, NetworkSettings)
        bounds.check("train", self, TrainSettings)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """Creates settings from the "model" table of a trainer's custom config.

        Raises:
            ConfigError: The table holds an unknown name.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"model settings: expected only {', '.join(sorted(known))}. "
                f"Received: {', '.join(unknown)}"
            )
        given = dict(values)
        for name, kind in (("fine_tune", FineTune), ("views", ViewSpec), ("mixing", Mixing)):
            if isinstance(given.get(name), Mapping):
                given[name] = kind(**given[name])
        return cls(**given)

    def backbone_spec(self) -> Backbone:
        """Returns the backbone with its weights and its cut."""
        return backbones.get(
            self.backbone, self.weights, self.weights_sha256, self.cut, self.width, self.seed
        )

    @property
    def size(self) -> int:
        """Side in pixels that the backbone sees."""
        return self.image_size or self.backbone_spec().image_size

    @property
    def frozen(self) -> bool:
        """Whether the whole backbone is frozen, so that features can be stored."""
        if self.freeze == "auto":
            return self.backbone_spec().trained
        return self.freeze == "all"

    def second_stage(self) -> ModelSettings:
        """Returns the settings of fine-tuning in the form of those of a stage."""
        stage = self.fine_tune
        return replace(
            self,
            learning_rate=stage.learning_rate,
            schedule=stage.schedule,
            epochs=stage.epochs,
            patience=stage.patience,
            batch_size=stage.batch_size,
            steps_per_epoch=0,
            target_accuracy=0.0,
        )

    def check_together(self) -> None:
        """Raises an error when one setting would leave another without effect.

        Raises:
            ConfigError: There is such a pair; the message says what to change.
        """
        self.backbone_spec()
        if self.fine_tune.wanted and not self.frozen:
            raise ConfigError(
                "fine_tune.mode trains layers of a frozen backbone after the head, and here every "
                'layer trains from the start. Set it to "off", or model.freeze to "all"'
            )
        if self.feature_dropout and not self.hidden_units:
            raise ConfigError(
                "model.feature_dropout comes before a hidden layer, and model.hidden_units is 0. "
                "Use model.dropout for a linear head"
            )
        if self.mixing.cutmix and self.frozen and not self.fine_tune.wanted:
            raise ConfigError(
                "views.cutmix needs pictures or feature maps, and here a head trains on pooled "
                "features. Use views.mixup, or fine_tune.mode"
            )

        if self.views.multi_scale and (
            not self.frozen or self.fine_tune.wanted or self.pooling == "flatten"
        ):
            raise ConfigError(
                "views.multi_scale needs features that are pooled alike at any size: a frozen "
                'backbone, model.pooling "average" or "max", fine_tune.mode "off"'
            )

    def check_classes(self, vocabulary: Sequence[str]) -> tuple[str, ...]:
        """Returns the class names after checking that a network with these settings can have them.

        Raises:
            ConfigError: They cannot be told apart, are not two for one unit, or one of them is
                what an unknown image would be called.
        """
        checked = check_vocabulary(vocabulary)
        self.one_unit(len(checked))
        if self.unknown_rate and names.UNKNOWN in checked:
            raise ConfigError(
                f"model.unknown_rate: a class is called {names.UNKNOWN!r} already. Rename its "
                "folder, or set the rate to 0"
            )
        return checked

    def one_unit(self, classes: int) -> bool:
        """Whether the head has the single unit of a binary classifier."""
        if self.activation == "sigmoid" and classes != 2:
            raise ConfigError(
                f"model.activation: sigmoid needs two classes, the vocabulary has {classes}. "
                "Use softmax or auto"
            )
        return classes == 2 and self.activation != "softmax"


def check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Returns the class names after checking that a file can hold them, one name a line.

    Raises:
        ConfigError: There are fewer than two names, a name is there twice, is empty or has a line
            break, or the names are not sorted.
    """
    given = tuple(vocabulary)
    if len(given) < 2:
        raise ConfigError(f"a classifier needs two classes or more. Received: {list(given)}")
    if list(given) != sorted(set(given)):
        raise ConfigError(f"expected class names sorted, each once. Received: {list(given)}")
    odd = [name for name in given if name.splitlines() != [name]]
    if odd:
        raise ConfigError(f"class names must not be empty or hold a line break. Received: {odd}")
    return given
