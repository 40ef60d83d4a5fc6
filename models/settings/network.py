"""The settings of a network, of its training and of its augmented views."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.files import source_code
from imgpipe.models.settings.section import AUTOMATIC, STRICT, ShareBelowOne, declared

AUTO: Final = "auto"  # folds choose
AVERAGE: Final = "average"  # the mean of the last feature map over its positions
FLATTEN: Final = "flatten"  # its values
#: The mean of the last map, and the covariances of the channels of this map and of two lower ones.
COVARIANCE: Final = "covariance"
CLASS_TOKEN: Final = "class_token"  # the class token of a transformer
TOKENS: Final = "tokens"  # the class token, and the mean of the patches

#: All other kinds read covariances: this one, and the names of layers.
WITHOUT_COVARIANCES: Final = (AVERAGE, FLATTEN, CLASS_TOKEN, TOKENS)
#: Number of axes to which the channels of a map are projected before their covariance is taken.
COVARIANCE_AXES: Final = 64

_BLOCKS_OF_TOKENS: Final[Mapping[str, int]] = {CLASS_TOKEN: 0, AVERAGE: 1}
_BLOCKS_OF_MAPS: Final[Mapping[str, int]] = {AVERAGE: 0}


def single_blocks(largest_kind: str) -> Mapping[str, int]:
    """Return the kinds of features that are one of several blocks, which a head may read alone.

    Args:
        largest_kind: What the head reads at most: all blocks.

    Returns:
        The numbers of these blocks, from 0 on, by kind. The first kind is used where no other is
        better.
    """
    return _BLOCKS_OF_TOKENS if largest_kind == TOKENS else _BLOCKS_OF_MAPS


def one_block(largest_kind: str) -> str:
    """Return the kind of features of a head that is to read one block; see `single_blocks`."""
    if largest_kind in (FLATTEN, CLASS_TOKEN):
        return largest_kind
    return next(iter(single_blocks(largest_kind)))


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
    freeze: Literal["auto", "all", "none"] = Field(
        default="auto",
        description="Layers that are not trained. all: the whole backbone, so that only the head "
        "is trained; none: every layer is trained; auto: all for trained weights, none for random "
        "ones.",
    )
    image_size: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0,
        description="Side in pixels of the images that the backbone receives. 0: the size that it "
        "was designed for, or a larger one where folds choose the features, too.",
    )
    features: str = Field(
        default=AUTO,
        pattern=r"^[^\s,]+(,[^\s,]+)*$",
        description="What the head reads: average (the mean of the last feature map over its "
        "positions), flatten (all values of this map), covariance (average, and how the channels "
        "of this map and of two lower ones go together), or the names of other lower layers, with "
        "commas between them; of a transformer also class_token, or tokens (class_token and "
        "average). auto: folds choose where a head is solved on trained weights and fine_tune.mode "
        "is not on; otherwise average, or class_token if there is one.",
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
    unknown_rate: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.0,
        description="Maximum share of the images for the temperature whose label may become "
        '"unknown". 0: none.',
    )

    @property
    def network(self) -> str:
        """Name of the backbone, or of the function that replaces it."""
        return self.builder or self.backbone


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
        description="Minutes for which the training of a network that may be better than the "
        "solved head is planned; see fine_tune.mode. 0: none is tried. Not set: the images decide. "
        "None is tried for up to 500 images to learn from; otherwise it is trained for as many "
        "views and epochs as two ordinary cores train in a tenth of a second for each image, but "
        "in at least 3 and at most 15 minutes. It ends early if a part of them shows no gain.",
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


_Share = Annotated[float, Field(ge=0, le=1)]
BUILDER: Final = "views.builder"  # the name of this setting in messages


@dataclass(frozen=True, config=STRICT)
class ViewSpec:
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


@dataclass(frozen=True, config=STRICT)
class ViewSettings(ViewSpec):
    """Augmented views of each training image, in addition to the image itself."""

    count: int = Field(
        default=AUTOMATIC,
        ge=AUTOMATIC,
        le=32,
        description="Augmented views per image. -1: 4, but none for a head that is solved.",
    )

    @property
    def spec(self) -> ViewSpec:
        """Settings of the views themselves; `count` is the most that are made."""
        count = ViewSpec.count if self.count == AUTOMATIC else self.count
        return ViewSpec(**{**dataclasses.asdict(self), "count": count})
