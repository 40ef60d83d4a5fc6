"""The sections [model], [train] and [fine_tune] of the configuration.

Every setting of a network and of its training is declared here once, with its limits and its
description. `imgpipe.models.settings` combines them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.limits import STRICT

Activation = Literal["auto", "softmax", "sigmoid"]
Balance = Literal["none", "class_weights"]
FineTuneMode = Literal["off", "on", "auto", "search"]
Freeze = Literal["auto", "all", "none"]
Optimizer = Literal["auto", "adam", "adamw", "rmsprop", "sgd"]
Pooling = Literal["average", "max", "flatten"]
Precision = Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"]
Schedule = Literal["constant", "cosine"]
Strategy = Literal["none", "mirrored", "multi_worker"]

BatchSize = Annotated[int, Field(ge=1, le=65536)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
LearningRate = Annotated[float, Field(ge=1e-8, le=10)]
Share = Annotated[float, Field(ge=0, le=0.99)]  # of a whole, of which something must remain

_SCHEDULE: Final = (
    "Learning-rate schedule: constant, or cosine, which rises in the first twentieth of the "
    "steps and then falls to 0."
)
_RATE: Final = "Learning rate of the optimizer."
_PATIENCE: Final = "Number of epochs without a lower validation loss after which training stops."


@dataclass(frozen=True, config=STRICT)
class NetworkSettings:
    """Backbone and head."""

    backbone: str = Field(default="efficientnet_lite0", description="Name of the backbone.")
    builder: str = Field(
        default="",
        pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$",
        description="module:function of your own that takes the side in pixels and returns a Keras "
        "model from pixels in 0..255 to a feature map; it replaces the backbone.",
    )
    weights: str = Field(
        default="imagenet",
        description="imagenet, none (random) or the path of a .weights.h5, .h5 or .keras file.",
    )
    weights_sha256: str = Field(
        default="",
        description="SHA-256 that a file of weights must have. Empty: it is not checked.",
    )
    cut: str = Field(
        default="",
        description="Layer of the backbone whose output is the feature map. Empty: the last layer.",
    )
    width: Annotated[float, Field(ge=0.01, le=10)] = Field(
        default=1.0, description="Multiplier of the number of filters, for backbones that have one."
    )
    freeze: Freeze = Field(
        default="auto",
        description="Layers that are not trained. all: the whole backbone, so that only the head "
        "is trained; none: every layer is trained; auto: all for trained weights, none for random "
        "ones.",
    )
    image_size: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0,
        description="Side in pixels of the images that the backbone receives. 0: the size that it "
        "was designed for.",
    )
    pooling: Pooling = Field(
        default="average",
        description="How the feature map becomes a feature vector: average, max or flatten.",
    )
    feature_dropout: Share = Field(
        default=0.0, description="Share of the features that are dropped before the hidden layer."
    )
    hidden_units: Annotated[int, Field(ge=0, le=65536)] = Field(
        default=0, description="Number of units of a hidden layer. 0: the head is linear."
    )
    dropout: Share = Field(
        default=0.2, description="Share of the inputs of the last layer that are dropped."
    )
    activation: Activation = Field(
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

    optimizer: Optimizer = Field(
        default="auto",
        description="auto solves a linear head on stored features exactly, without epochs, and "
        "trains everything else with adam; or adam, adamw, rmsprop or sgd (momentum 0.9).",
    )
    l2: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=0.0,
        description="Penalty of the squared weights of a solved head, for standardised features. "
        "0: cross-validation over train chooses it.",
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
    label_smoothing: Share = Field(
        default=0.0,
        description="Share of each label's probability that is spread over all classes.",
    )
    balance: Balance = Field(
        default="none",
        description="Remedy for classes of unequal size: class_weights weights the loss, none does "
        "nothing.",
    )
    precision: Precision = Field(
        default="auto",
        description="Precision of the layers that are trained besides the head. auto: "
        "mixed_float16 on a GPU; on a CPU float32, except for convolutions of 1 x 1, which use "
        "bfloat16 where the CPU supports it. The exported model is float32.",
    )
    strategy: Strategy = Field(
        default="none",
        description="Strategy of tf.distribute: none, mirrored (the GPUs of one machine) or "
        "multi_worker.",
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        default=0, description="Seed of the initial weights, of shuffling and of dropout."
    )
    minutes: float | None = Field(
        default=None,
        examples=[15],
        ge=0,
        le=100_000,
        description="Minutes for trying networks that may be better than the solved head; see "
        "fine_tune.mode. 0: none is tried. Not set: the time of 60 forward passes of all images "
        "that a network is trained on, between 1 and 15 minutes.",
    )


@dataclass(frozen=True, config=STRICT)
class FineTune:
    """Whether the last layers of the network are trained too, and how."""

    mode: FineTuneMode = Field(
        default="search",
        description="When layers above the cut are trained. search: when the head alone falls "
        "short, in several ways within train.minutes, and the network is used if it is better by "
        "more than noise; on: always; auto: always, and the network is used if it is better on "
        "validation; off: never.",
    )
    cut: str = Field(
        default="",
        description="Layer or block, such as block11, above which layers are trained. Empty: the "
        "search chooses it; without a search it is at two thirds of the network.",
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

    @property
    def wanted(self) -> bool:
        """Whether there is always a second stage, independently of the accuracy of the head."""
        return self.mode in ("on", "auto")
