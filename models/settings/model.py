"""The sections `[model]` and `[train]`, and the kinds of features that a head may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field

from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.section import SettingsSection

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


class NetworkSettings(SettingsSection):
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
        "average). auto: folds choose where a head is solved on trained weights and "
        "course.fine_tune.mode is not on; otherwise average, or class_token if there is one.",
    )

    @property
    def network(self) -> str:
        """Name of the backbone, or of the function that replaces it."""
        return self.builder or self.backbone


class TrainSettings(SettingsSection):
    """How a network is trained, whatever is trained of it."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        default=0, description="Seed of the initial weights, of shuffling and of dropout."
    )
    minutes: float | None = Field(
        default=None,
        examples=[15],
        ge=0,
        le=100_000,
        description="Minutes of two ordinary cores for which the training of a network that may be "
        "better than the solved head is planned, on any machine; see course.fine_tune.mode. 0: "
        "none is tried. Not set: the images decide. None is tried for up to 500 images to learn "
        "from; otherwise it is trained for as many views and epochs as two ordinary cores train in "
        "a tenth of a second for each image, but in at least 3 and at most 15 minutes. It ends "
        "early if a part of them shows no gain.",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="auto",
        description="Precision of the layers that are trained besides the head. auto: "
        "mixed_float16 on a GPU; on a CPU float32, except for convolutions of 1 x 1, which use "
        "bfloat16 where the CPU supports it. The exported model is float32.",
    )


def check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Return the class names after checking that a text file with one name a line can hold them.

    Raises:
        ConfigError: There are fewer than two names, a name occurs twice, is empty or contains a
            line break, or the names are not sorted.
    """
    classes = tuple(vocabulary)
    if len(classes) < 2:
        raise ConfigError(f"a classifier needs two classes or more. Received: {list(classes)}")
    if list(classes) != sorted(set(classes)):
        raise ConfigError(f"expected class names sorted, each once. Received: {list(classes)}")
    # `splitlines` also knows line breaks such as U+2028, which readers of the file may split at.
    odd = [name for name in classes if name.splitlines() != [name]]
    if odd:
        raise ConfigError(f"class names must not be empty or hold a line break. Received: {odd}")
    return classes
