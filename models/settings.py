"""The settings of a network and of its training, and the rules that concern several.

The settings of [model], [train] and [fine_tune] are declared here; `ModelSettings` has all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from imgpipe.models import backbones
from imgpipe.models import feature_kinds as kinds
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.backbones import Backbone
from imgpipe.models.backbones.registry import architecture
from imgpipe.models.errors import ConfigError
from imgpipe.models.feature_names import UNKNOWN
from imgpipe.models.limits import STRICT, problems
from imgpipe.models.model_names import SERVED_NAME

_LARGER: Final = (9 / 7, 12 / 7)  # 288 and 384 instead of 224 pixels
Schedule = Literal["constant", "cosine"]

BatchSize = Annotated[int, Field(ge=1, le=65536)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
LearningRate = Annotated[float, Field(ge=1e-8, le=10)]
_Share = Annotated[float, Field(ge=0, le=0.99)]  # of a whole, of which something must remain

_SCHEDULE: Final = (
    "Learning-rate schedule: constant, or cosine, which rises in the first twentieth of the "
    "steps and then falls to 0."
)
_RATE: Final = "Learning rate of the optimizer."
_PATIENCE: Final = "Number of epochs without a lower validation loss after which training stops."


@dataclass(frozen=True, config=STRICT)
class NetworkSettings:
    """Backbone and head."""

    backbone: str = Field(
        default="efficientnet_lite0",
        description="Name of the backbone, or a preset of KerasHub: hub:NAME or hub:./FOLDER.",
    )
    builder: str = Field(
        default="",
        pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$",
        description="module:function of your own that takes the side in pixels and returns a Keras "
        "model from pixels in 0..255 to a feature map; it replaces the backbone.",
    )
    weights: str = Field(
        default="imagenet",
        description="imagenet (a preset: its own), none (random), or a .h5 or .keras file.",
    )
    weights_sha256: str = Field(
        default="",
        description="SHA-256 of the file of weights, also of a preset. Empty: it is not checked.",
    )
    cut: str = Field(
        default="",
        description="Layer of the backbone whose output is the feature map. Empty: the last layer.",
    )
    width: Annotated[float, Field(ge=0.01, le=10)] = Field(
        default=1.0, description="Multiplier of the number of filters, for backbones that have one."
    )
    freeze: Literal["auto", "all", "none"] = Field(
        default="auto",
        description="Layers that are not trained. all: the whole backbone, so that only the head "
        "is trained; none: every layer is trained; auto: all for trained weights, none for random "
        "ones.",
    )
    image_size: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0,
        description="Side in pixels of the images that the backbone receives. 0: the size that it "
        "was designed for, or a larger one that folds choose for a solved head.",
    )
    features: str = Field(
        default=kinds.AUTO,
        pattern=r"^[^\s,]+(,[^\s,]+)*$",
        description="What the head reads: average (the mean of the last feature map over its "
        "positions), flatten (its values), covariance (average, and how the channels of this and "
        "two lower maps go together), the names of these lower layers, with commas, or, of a "
        "transformer, class_token or tokens (this and average). auto: what folds choose for a "
        "solved head; else, or if fine_tune.mode is on, average, or class_token if there is one.",
    )
    feature_dropout: _Share = Field(
        default=0.0, description="Share of the features that are dropped before the hidden layer."
    )
    hidden_units: Annotated[int, Field(ge=0, le=65536)] = Field(
        default=0, description="Number of units of a hidden layer. 0: the head is linear."
    )
    dropout: _Share = Field(
        default=0.2, description="Share of the inputs of the last layer that are dropped."
    )
    activation: Literal["auto", "softmax", "sigmoid"] = Field(
        default="auto",
        description="Activation of the last layer: sigmoid, softmax, or auto, which is one sigmoid "
        "unit for two classes and softmax for more.",
    )
    unknown_rate: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Maximum share of the images for the temperature whose label may become "
        '"unknown". 0: none.',
    )

    @property
    def network(self) -> str:
        """Name of the backbone, or of the function that replaces it."""
        return self.builder or self.backbone


@dataclass(frozen=True, config=STRICT)
class TrainSettings:
    """How the head, or the whole network, is trained."""

    optimizer: Literal["auto", "adam", "adamw", "rmsprop", "sgd"] = Field(
        default="auto",
        description="auto solves a linear head on stored features exactly, without epochs, and "
        "trains everything else with adam; or adam, adamw, rmsprop or sgd (momentum 0.9).",
    )
    learning_rate: LearningRate = Field(default=1e-3, description=_RATE)
    schedule: Schedule = Field(default="constant", description=_SCHEDULE)
    batch_size: BatchSize = Field(
        default=128, description="Number of images or views in a training step."
    )
    epochs: Epochs = Field(
        default=60,
        description="Maximum number of epochs; training stops earlier when the validation loss no "
        "longer falls.",
    )
    steps_per_epoch: Annotated[int, Field(ge=0, le=10**9)] = Field(
        default=0,
        description="Maximum number of steps in an epoch of the first stage. 0: as many as the "
        "data has.",
    )
    patience: Epochs = Field(default=8, description=_PATIENCE)
    target_accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Training accuracy at which the first stage ends. 0: it does not end early.",
    )
    label_smoothing: _Share = Field(
        default=0.0,
        description="Share of each label's probability that is spread over all classes.",
    )
    balance: Literal["none", "class_weights"] = Field(
        default="none",
        description="Remedy for classes of unequal size: class_weights weights the loss, none does "
        "nothing.",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="auto",
        description="Precision of the layers that are trained besides the head. auto: "
        "mixed_float16 on a GPU; on a CPU float32, except for convolutions of 1 x 1, which use "
        "bfloat16 where the CPU supports it. The exported model is float32.",
    )
    strategy: Literal["none", "mirrored"] = Field(
        default="none",
        description="Strategy of tf.distribute: none, or mirrored (the GPUs of one machine).",
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        default=0, description="Seed of the initial weights, of shuffling and of dropout."
    )
    minutes: float | None = Field(
        default=None,
        examples=[15],
        ge=0,
        le=100_000,
        description="Minutes for training a network that may be better than the solved head; see "
        "fine_tune.mode. 0: none is tried. Not set: the images decide, and no clock: none is tried "
        "for up to 500 images to learn from; otherwise it is trained for as many views and epochs "
        "as two ordinary cores train in 3 minutes, or in 15 for more than 2,000 images.",
    )


@dataclass(frozen=True, config=STRICT)
class FineTune:
    """Whether the last layers of the network are trained too, and how."""

    mode: Literal["off", "on", "search"] = Field(
        default="search",
        description="When layers above the cut are trained. search: when the head alone falls "
        "short, for as many views and epochs as train.minutes says, and the network is used if it "
        "is better by more than a standard error; on: always; off: never.",
    )
    cut: str = Field(
        default="",
        description="Layer or block, such as block11, above which layers are trained. Empty: one "
        "with small activations, above which about half of the operations are.",
    )
    learning_rate: LearningRate = Field(default=5e-4, description=_RATE)
    schedule: Schedule = Field(default="cosine", description=_SCHEDULE)
    batch_size: BatchSize = Field(default=32, description="Number of views in a training step.")
    epochs: Epochs = Field(default=4, description="Maximum number of epochs.")
    patience: Epochs = Field(
        default=4,
        description=f"{_PATIENCE} The loss is that with the temperature that calibrates the "
        "network best.",
    )


@dataclass(frozen=True, config=STRICT)
class ModelSettings(TrainSettings, NetworkSettings):
    """Settings of a network and of its training.

    Attributes:
        name: Name of the served model.
        fine_tune: Settings of the second stage.
        views: Settings of the augmentation.
    """

    name: str = SERVED_NAME
    fine_tune: FineTune = Field(default_factory=FineTune)
    views: ViewSpec = Field(default_factory=ViewSpec)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """Create settings from the "model" table of a trainer's custom config.

        Args:
            values: The table, with settings by name.

        Raises:
            ConfigError: A name is unknown, or a value is out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("model settings: " + "; ".join(problems(error))) from None

    def backbone_spec(self) -> Backbone:
        """Return the backbone with its weights and its cut. TensorFlow is not imported."""
        return backbones.get(
            self.network, self.weights, self.weights_sha256, self.cut, self.width, self.seed
        )

    @property
    def size(self) -> int:
        """Side in pixels of the images that the backbone receives."""
        return self.image_size or self.backbone_spec().image_size

    @property
    def frozen(self) -> bool:
        """Whether the whole backbone is frozen, so that features can be stored."""
        if self.freeze == "auto":
            return self.backbone_spec().trained
        return self.freeze == "all"

    @property
    def solved(self) -> bool:
        """Whether the head is solved as a convex problem instead of trained by epochs."""
        # The loss is convex only for a linear head on fixed inputs. The other settings mean
        # something for training by epochs alone, so that setting one asks for epochs.
        return (
            self.optimizer == "auto"
            and self.frozen
            and not self.hidden_units
            and not self.target_accuracy
            and not self.steps_per_epoch
            and self.strategy == "none"
        )

    @property
    def head_alone(self) -> bool:
        """Whether a solved head may be the result, without a stage that trains layers below it."""
        return self.solved and self.fine_tune.mode != "on"

    @property
    def chooses_features(self) -> bool:
        """Whether folds choose what the head reads."""
        return self.features == kinds.AUTO and self.head_alone and self.backbone_spec().trained

    @property
    def widest(self) -> str:
        """What the head may read at most: `features`, where "auto" is not decided yet."""
        if self.features != kinds.AUTO:
            return self.features
        class_token = self.backbone_spec().class_token
        if self.chooses_features:
            return kinds.TOKENS if class_token else kinds.COVARIANCE
        return kinds.CLASS_TOKEN if class_token else kinds.AVERAGE

    @property
    def with_one_block(self) -> ModelSettings:
        """The settings of the networks of a search, whose heads read the first block alone."""
        return replace(self, features=kinds.one_block(self.widest))

    @property
    def larger_sizes(self) -> tuple[int, ...]:
        """Sides in pixels of larger images that a run may choose, ascending multiples of 32.

        There are none where the size is given or where other weights would be needed.
        """
        spec = self.backbone_spec()
        if (
            self.image_size
            or self.weights != "imagenet"
            or self.builder
            or self.widest == kinds.FLATTEN  # its head has weights for each position
            or architecture(spec.name).weights_by_size  # others would have to be downloaded
        ):
            return ()
        return tuple(round(factor * self.size / 32) * 32 for factor in _LARGER)

    @property
    def searches(self) -> bool:
        """Whether the run may search for a network that is better than the solved head."""
        return self.solved and self.fine_tune.mode == "search" and self.minutes != 0

    def second_stage(self) -> ModelSettings:
        """Return the settings of fine-tuning in the form of settings of a training."""
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
        """Raise an error when one setting would leave another without effect.

        Raises:
            ConfigError: There is such a pair; the message says what to change.
        """
        self.backbone_spec()
        if self.fine_tune.mode == "on" and not self.frozen:
            raise ConfigError(
                "fine_tune.mode trains layers of a frozen backbone after the head, but here every "
                'layer trains from the start. Set it to "off", or model.freeze to "all"'
            )
        if self.feature_dropout and not self.hidden_units:
            raise ConfigError(
                "model.feature_dropout comes before a hidden layer, but model.hidden_units is 0. "
                "Use model.dropout for a linear head"
            )

    def check_classes(self, vocabulary: Sequence[str]) -> tuple[str, ...]:
        """Return the class names after checking that a network with these settings can have them.

        Args:
            vocabulary: Class names in sorted order.

        Raises:
            ConfigError: The names are not distinct, a head with one unit has not exactly two
                classes, or a class has the name that is served for unknown images.
        """
        checked = check_vocabulary(vocabulary)
        self.one_unit(len(checked))
        if self.unknown_rate and UNKNOWN in checked:
            raise ConfigError(
                f"model.unknown_rate: a class is called {UNKNOWN!r} already. Rename its "
                "folder, or set the rate to 0"
            )
        return checked

    def one_unit(self, classes: int) -> bool:
        """Return whether the head has the single unit of a binary classifier.

        Args:
            classes: Number of classes.

        Raises:
            ConfigError: The activation is sigmoid, and there are not exactly two classes.
        """
        if self.activation == "sigmoid" and classes != 2:
            raise ConfigError(
                f"model.activation: sigmoid needs two classes, the vocabulary has {classes}. "
                "Use softmax or auto"
            )
        return classes == 2 and self.activation != "softmax"


def check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Return the class names after checking that a text file with one name a line can hold them.

    Args:
        vocabulary: Class names in sorted order.

    Raises:
        ConfigError: There are fewer than two names, a name occurs twice, is empty or contains a
            line break, or the names are not sorted.
    """
    names = tuple(vocabulary)
    if len(names) < 2:
        raise ConfigError(f"a classifier needs two classes or more. Received: {list(names)}")
    if list(names) != sorted(set(names)):
        raise ConfigError(f"expected class names sorted, each once. Received: {list(names)}")
    # `splitlines` also knows line breaks such as U+2028, which readers of the file may split at.
    odd = [name for name in names if name.splitlines() != [name]]
    if odd:
        raise ConfigError(f"class names must not be empty or hold a line break. Received: {odd}")
    return names
