"""The section `[course]`: networks that are trained by epochs, as the course does, and their views.

The head of a frozen backbone is solved, and needs none of these settings. The presets of the
course set them.
"""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import Field

from imgpipe.models.files import source_code
from imgpipe.models.settings.section import AUTOMATIC, SettingsSection, ShareBelowOne, declared

LearningRate = Annotated[
    float, Field(ge=1e-8, le=10, description="Learning rate of the optimizer.")
]
Schedule = Annotated[
    Literal["constant", "cosine"],
    Field(
        description="Learning-rate schedule: constant, or cosine, which rises in the first "
        "twentieth of the steps and then falls to 0."
    ),
]
BatchSize = Annotated[
    int, Field(ge=1, le=65536, description="Number of images or views in a training step.")
]
Epochs = Annotated[
    int,
    Field(
        ge=1,
        le=100_000,
        description="Maximum number of epochs; training stops earlier when the validation loss no "
        "longer falls.",
    ),
]
Patience = Annotated[
    int,
    Field(
        ge=1,
        le=100_000,
        description="Number of epochs without a lower validation loss after which training stops. "
        "That of fine-tuning is the loss with the temperature that calibrates the network best.",
    ),
]
_Share = Annotated[float, Field(ge=0, le=1)]
BUILDER: Final = "course.views.builder"  # the name of this setting in messages


class StageSettings(SettingsSection):
    """One stage of a training by epochs."""

    learning_rate: LearningRate = 1e-3
    schedule: Schedule = "constant"
    batch_size: BatchSize = 128
    epochs: Epochs = 60
    patience: Patience = 8


class FineTune(StageSettings):
    """Whether the last layers of the network are trained too, and how."""

    learning_rate: LearningRate = 5e-4
    schedule: Schedule = "cosine"
    batch_size: BatchSize = 32
    epochs: Epochs = 4
    patience: Patience = 4
    mode: Literal["off", "on", "search"] = Field(
        default="search",
        description="When layers above the cut are trained. search: when the head falls "
        "short, for as many views and epochs as train.minutes says, and the network is used if it "
        "is better by more than chance; on: always; off: never.",
    )
    cut: str = Field(
        default="",
        description="Layer or block, such as block11, above which layers are trained. Empty: one "
        "with small activations, above which about half of the operations are.",
    )


class ViewSpec(SettingsSection):
    """The number of augmented views of a training image, and how much they differ from it.

    The defaults are the augmentation of the course. A range r means that the value is uniform in
    [-r, r].
    """

    count: Annotated[int, Field(ge=0, le=32)] = Field(
        default=4, description="Number of augmented views of each training image."
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(
        default=40.0, description="Maximum rotation in degrees, to either side."
    )
    shifts: _Share = Field(
        default=0.2,
        description="Maximum shift in either direction, as a share of width and height.",
    )
    shear: _Share = Field(
        default=0.2, description="Maximum horizontal shear factor, in either direction."
    )
    zoom: Annotated[float, Field(ge=0, le=0.99)] = Field(
        default=0.2,
        description="Maximum zoom in or out, as a share; width and height change independently.",
    )
    scale: Annotated[float, Field(ge=0, le=3)] = Field(
        default=0.0,
        description="Maximum change of the size of the whole image: at most 1 + scale times larger "
        "or smaller.",
    )
    horizontal_flip: bool = Field(default=True, description="Whether every other view is mirrored.")
    fill: Literal["nearest", "reflect", "wrap", "constant"] = Field(
        default="nearest",
        description="How pixels outside of the image are filled: nearest, reflect, wrap or "
        "constant.",
    )
    builder: str = Field(
        default="",
        pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$",
        description="module:function of your own that returns a Keras layer, or a function, from a "
        "batch of images, float32 [N, S, S, 3] in 0..255, to one of the same shape; it makes the "
        "views instead of the other settings.",
    )

    def key(self) -> str:
        """Return a stable string of what decides a view; `count` is not part of it."""
        settings = {name: getattr(self, name) for name in declared(self) if name != "count"}
        if self.builder:
            settings["code"] = source_code.function_sha256(BUILDER, self.builder)
        return json.dumps(settings, sort_keys=True)


class ViewSettings(ViewSpec):
    """Augmented views of each training image, in addition to the image itself."""

    count: Annotated[int, Field(ge=AUTOMATIC, le=32)] = Field(
        default=AUTOMATIC,
        description="Augmented views per image. -1: 4, but none for a head that is solved.",
    )

    @property
    def spec(self) -> ViewSpec:
        """Settings of the views themselves; `count` is the most that are made."""
        values = self.model_dump()
        if self.count == AUTOMATIC:
            del values["count"]
        return ViewSpec(**values)


class CourseSettings(StageSettings):
    """Networks that are trained by epochs, as in the course, whose presets set these."""

    freeze: Literal["auto", "all", "none"] = Field(
        default="auto",
        description="Layers that are not trained. all: the whole backbone, so that only the head "
        "is trained; none: every layer is trained; auto: all for trained weights, none for random "
        "ones.",
    )
    feature_dropout: ShareBelowOne = Field(
        default=0.0, description="Share of the features that are dropped before the hidden layer."
    )
    hidden_units: Annotated[int, Field(ge=0, le=65536)] = Field(
        default=0, description="Number of units of a hidden layer. 0: the head is linear."
    )
    dropout: ShareBelowOne = Field(
        default=0.2, description="Share of the inputs of the last layer that are dropped."
    )
    activation: Literal["auto", "softmax", "sigmoid"] = Field(
        default="auto",
        description="Activation of the last layer: sigmoid, softmax, or auto, which is one sigmoid "
        "unit for two classes and softmax for more.",
    )
    optimizer: Literal["auto", "adam", "adamw", "rmsprop", "sgd"] = Field(
        default="auto",
        description="auto solves a linear head on stored features exactly, without epochs, and "
        "trains everything else with adam; or adam, adamw, rmsprop or sgd (momentum 0.9).",
    )
    steps_per_epoch: Annotated[int, Field(ge=0, le=10**9)] = Field(
        default=0,
        description="Maximum number of steps in an epoch of the first stage. 0: as many as the "
        "data has.",
    )
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
    strategy: Literal["none", "mirrored"] = Field(
        default="none",
        description="Strategy of tf.distribute: none, or mirrored (the GPUs of one machine).",
    )
    fine_tune: FineTune = FineTune()
    views: ViewSettings = ViewSettings()
