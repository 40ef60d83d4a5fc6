"""The settings of a network: of its backbone, and of the head on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from imgpipe.models.settings import feature_kinds as kinds
from imgpipe.models.settings.limits import STRICT, ShareBelowOne


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
        "was designed for, or a larger one where folds choose the features, too.",
    )
    features: str = Field(
        default=kinds.AUTO,
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
