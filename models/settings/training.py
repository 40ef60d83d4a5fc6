"""The settings of a training: of its first stage, and of fine-tuning, which is the second one."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.settings.limits import STRICT, ShareBelowOne

Schedule = Literal["constant", "cosine"]

BatchSize = Annotated[int, Field(ge=1, le=65536)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
LearningRate = Annotated[float, Field(ge=1e-8, le=10)]

_SCHEDULE: Final = (
    "Learning-rate schedule: constant, or cosine, which rises in the first twentieth of the "
    "steps and then falls to 0."
)
_RATE: Final = "Learning rate of the optimizer."
_PATIENCE: Final = "Number of epochs without a lower validation loss after which training stops."


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
    label_smoothing: ShareBelowOne = Field(
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
        "as two ordinary cores train in a tenth of a second for each image, but in at least 3 and "
        "at most 15 minutes. It ends after a third of them if it shows no gain by then.",
    )


@dataclass(frozen=True, config=STRICT)
class FineTune:
    """Whether the last layers of the network are trained too, and how."""

    mode: Literal["off", "on", "search"] = Field(
        default="search",
        description="When layers above the cut are trained. search: when the head alone falls "
        "short, for as many views and epochs as train.minutes says, and the network is used if it "
        "is better by more than chance; on: always; off: never.",
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
