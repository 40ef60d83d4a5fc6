"""The settings of a model: network, search and training, and the rules for several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from imgpipe.models import names
from imgpipe.models.backbones import Backbone
from imgpipe.models.backbones.registry import architecture
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.course import EpochSettings, FineTune, StageSettings, ViewSpec
from imgpipe.models.settings.section import STRICT, declared, problems

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

_LARGER: Final = (9 / 7, 12 / 7)  # 288 and 384 instead of 224 pixels


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


@dataclass(frozen=True, config=STRICT)
class TrainSettings:
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


@dataclass(frozen=True, config=STRICT)
class ModelSettings(EpochSettings, TrainSettings, NetworkSettings):
    """Settings of a network and of its training.

    Attributes:
        name: Name of the served model.
        fine_tune: Settings of the second stage.
        views: Settings of the augmentation.
        axes: File of the axes of covariances, which FeatureBank has made; "" for none.
    """

    name: str = names.SERVED_NAME
    fine_tune: FineTune = Field(default_factory=FineTune)
    views: ViewSpec = Field(default_factory=ViewSpec)
    axes: str = ""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelSettings:
        """Create settings from the "model" table of a trainer's custom config.

        Raises:
            ConfigError: A name is unknown, or a value is out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError("model settings: " + "; ".join(problems(error))) from None

    def backbone_spec(self) -> Backbone:
        """Return the backbone with its weights and its cut. TensorFlow is not imported."""
        return Backbone(
            self.network,
            self.weights,
            weights_sha256=self.weights_sha256,
            cut=self.cut,
            seed=self.seed,
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
        return self.features == AUTO and self.head_alone and self.backbone_spec().trained

    @property
    def largest_kind(self) -> str:
        """What the head may read at most: `features`, where "auto" is not decided yet."""
        if self.features != AUTO:
            return self.features
        class_token = self.backbone_spec().class_token
        if self.chooses_features:
            return TOKENS if class_token else COVARIANCE
        return CLASS_TOKEN if class_token else AVERAGE

    @property
    def reads_covariances(self) -> bool:
        """Whether the head may read covariances of the channels of feature maps."""
        return self.largest_kind not in WITHOUT_COVARIANCES

    @property
    def with_one_block(self) -> ModelSettings:
        """The settings of the networks of a search, whose heads read the first block alone."""
        return replace(self, features=one_block(self.largest_kind))

    @property
    def larger_sizes(self) -> tuple[int, ...]:
        """Sides in pixels of larger images that a run may choose, ascending multiples of 32.

        There are none where the size is given or where other weights would be needed.
        """
        spec = self.backbone_spec()
        if (
            self.image_size
            or self.weights != "imagenet"
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
        stage = {name: getattr(self.fine_tune, name) for name in declared(StageSettings)}
        return replace(self, **stage, steps_per_epoch=0, target_accuracy=0.0)

    def check_together(self) -> None:
        """Raise an error when one setting would leave another without effect.

        Raises:
            ConfigError: There is such a pair; the message says what to change.
        """
        self.backbone_spec()
        if self.fine_tune.mode == "on" and not self.frozen:
            raise ConfigError(
                "course.fine_tune.mode trains layers of a frozen backbone after the head, but here "
                'every layer trains from the start. Set it to "off", or course.freeze to "all"'
            )
        if self.feature_dropout and not self.hidden_units:
            raise ConfigError(
                "course.feature_dropout comes before a hidden layer, but course.hidden_units is 0. "
                "Use course.dropout for a linear head"
            )

    def check_classes(self, vocabulary: Sequence[str]) -> tuple[str, ...]:
        """Return the class names, which are sorted, if a network with these settings can have them.

        Raises:
            ConfigError: The names are not distinct, or a head with one unit has not exactly two
                classes.
        """
        checked = check_vocabulary(vocabulary)
        self.one_unit(len(checked))
        return checked

    def one_unit(self, classes: int) -> bool:
        """Return whether the head has the single unit of a binary classifier.

        Raises:
            ConfigError: The activation is sigmoid, and there are not exactly two classes.
        """
        if self.activation == "sigmoid" and classes != 2:
            raise ConfigError(
                f"course.activation: sigmoid needs two classes, the vocabulary has {classes}. "
                "Use softmax or auto"
            )
        return classes == 2 and self.activation != "softmax"


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
