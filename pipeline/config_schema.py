"""The sections of the configuration: every setting with its type, its limits and its description.

A setting is one field. The settings of the network, of training and of augmentation are declared
in `imgpipe.models`, where they are used. ``imgpipe init`` writes the descriptions as comments.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic.dataclasses import dataclass

from imgpipe.components.image_filter.checks import CHOICES, THRESHOLDS
from imgpipe.models.augmentation import ViewSpec
from imgpipe.models.limits import STRICT
from imgpipe.models.mixup import Mixing

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Run(Section):
    """What the run is called and where everything it makes is kept."""

    name: str = Field(
        "imgpipe", pattern=_NAME, description="Name of the pipeline and the served model."
    )
    out: str = Field(
        "imgpipe-out",
        description="Folder for artifacts, metadata, feature bank, served versions and reports.",
    )


class Data(Section):
    """Where the images are."""

    source: str = Field(
        "",
        description="Folder with one sub-folder a class, or train/ validation/ test/ of those; "
        ".zip or .tar of such; manifest or pixels as .csv; tfds:NAME[:split]; .tfrecord files.",
    )
    classes: tuple[str, ...] = Field(
        (), description="The only labels there may be; empty: all that are found."
    )
    group_pattern: str = Field(
        "",
        description="Regular expression on the path whose first group names what must not straddle "
        r"splits (a person, a video), such as '([^/]+)\.rf\.'.",
    )
    label_column: str = Field(
        "", description="Column or feature of the label, by name or place from 0; empty: by habit."
    )
    path_column: str = Field("", description="Manifest: column of the path; empty: path.")
    split_column: str = Field("", description="Manifest: column of the split; empty: split.")
    group_column: str = Field("", description="Manifest: column of the group; empty: group.")
    image_column: str = Field("", description="TFRecord, TFDS: feature of the encoded image.")
    root: str = Field(
        "", description="Manifest: folder that the paths start from; empty: the manifest's own."
    )
    follow_links: bool = Field(
        False,
        description="Read files that symbolic links lead to outside of the source's folder.",
    )
    tfds_dir: str = Field(
        "", description="TensorFlow Datasets' folder; empty: its usual one, or $TFDS_DATA_DIR."
    )

    @model_validator(mode="after")
    def _pattern_has_a_group(self) -> Data:
        if self.group_pattern:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise ValueError(f"group_pattern is no regular expression: {error}") from None
            if not groups:
                raise ValueError(
                    "group_pattern needs round brackets around the part of the path that is the "
                    f"group's name, received {self.group_pattern!r}"
                )
        if self.classes and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes must be two or more different names: {self.classes}")
        return self


class Split(Section):
    """How images are divided; by salted content hash, so adding files moves nothing."""

    seed: int = Field(0, ge=0, description="Salt of the content hash; another seed, another split.")
    validation: float = Field(0.1, gt=0, lt=1, description="Share of images for validation.")
    test: float = Field(0.1, ge=0, lt=1, description="Share for test; 0 gives a 90/10 split.")

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Split:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test must leave something to train on, received "
                f"{self.validation} + {self.test}"
            )
        return self


if TYPE_CHECKING:
    from typing import TypeAlias

    Severities: TypeAlias = Section
    Thresholds: TypeAlias = Section
else:  # from the checks themselves, so that a new check needs no line here
    Severities = create_model(
        "Severities",
        __base__=Section,
        __doc__="What a finding leads to: reject, repair, warn or ignore.",
        **{
            name: (
                Literal[choice.may_be],
                Field(choice.usual, description=f"{choice.about} ({', '.join(choice.may_be)})."),
            )
            for name, choice in CHOICES.items()
        },
    )
    Thresholds = create_model(
        "Thresholds",
        __base__=Section,
        __doc__="What a check compares its measurement with.",
        **{
            name: (float, Field(usual, ge=0, description=f"{about[:1].upper()}{about[1:]}."))
            for name, (usual, about) in THRESHOLDS.items()
        },
    )


class Judge(Section):
    """What ImageFilter rejects, repairs and warns of."""

    min_side: int = Field(16, ge=1, description="Pixels; an image with a shorter side is rejected.")
    pixel_limit: int = Field(
        100_000_000,
        ge=1,
        description="Pixels (width x height); read from the header, before anything is decoded.",
    )
    overrides: str = Field(
        "",
        description="File of decisions about single images (accept, reject, relabel) by content "
        "hash. Entries with confirmed = false are proposals and change nothing; labels of test "
        "never change. imgpipe quarantine accept adds to it. Empty: none.",
    )
    store: str = Field(
        "",
        description="Where what is known of a file's content survives runs; empty: <out>/judge.",
    )
    severity: Severities = Severities()
    threshold: Thresholds = Thresholds()


class Gate(Section):
    """What DataGate demands before anything is trained."""

    min_train: int = Field(10, ge=1, description="Images each class needs in train.")
    min_validation: int = Field(3, ge=1, description="Images each class needs in validation.")
    min_test: int = Field(0, ge=0, description="Images each class needs in test (0: none).")
    allow_missing_classes: bool = Field(
        False,
        description="Accept classes of the vocabulary that no image has (sign language: 24 of 26).",
    )
    max_rejected_share: float = Field(
        0.1, ge=0, le=1, description="Rejected images / all images above which the run stops."
    )
    drift: Literal["reject", "warn", "ignore"] = Field(
        "reject",
        description="Data unlike that of the last blessed model: reject, warn or ignore. How much "
        "is too much stands in the accepted schema (drift_comparator).",
    )
    skew: Literal["reject", "warn", "ignore"] = Field(
        "warn", description="Validation or test unlike train: reject, warn or ignore."
    )
    schema_file: str = Field(
        "",
        description="Accepted schema (.pbtxt) to judge by; empty: <out>/schema/schema.pbtxt, "
        "written on the first run that passes.",
    )


@dataclass(frozen=True, config=STRICT)
class Views(Mixing, ViewSpec):
    """Augmentation: views of each training image in the feature bank, beside the clean one."""

    @property
    def spec(self) -> ViewSpec:
        """How the views look."""
        return ViewSpec(**self._only(ViewSpec))

    @property
    def mixing(self) -> Mixing:
        """How training examples are mixed with each other."""
        return Mixing(**self._only(Mixing))

    def _only(self, kind: type) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(kind)}


class Bank(Section):
    """The feature bank: the frozen backbone, run once per image and view."""

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16 where the CPU has it, else float32."
    )
    store: str = Field("", description="Where features survive runs; empty: <out>/bank.")
    budget: float = Field(
        2.0,
        ge=0,
        description="GiB that a run's features and activations may take; above it, layers are "
        "trained on images instead.",
    )


class Tune(Section):
    """Search for the head's settings on the bank, before it is trained."""

    trials: int = Field(
        0,
        ge=0,
        le=1000,
        description="Heads that are tried, a second or so each: width, rate, dropout and views. "
        "0: none. The best settings are written to tuned.toml in the run's folder.",
    )


class Evaluate(Section):
    """The gate of the model: what it takes to be blessed."""

    threshold: float = Field(0.9, ge=0, le=1, description="Validation accuracy to be reached.")
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Validation accuracy that may be lost against the last blessed model.",
    )
    cross_validate: int = Field(
        0,
        ge=0,
        le=20,
        description="Folds over train and validation whose mean accuracy must reach the threshold, "
        "in place of validation's; for sets with under 200 validation images. 0: off.",
    )

    @model_validator(mode="after")
    def _more_than_one_fold(self) -> Evaluate:
        if self.cross_validate == 1:
            raise ValueError("cross_validate must be 0 (off) or 2 to 20 folds, received 1")
        return self


class Export(Section):
    """What is made of a trained model beside the SavedModel."""

    lite: tuple[Literal["float16", "int8"], ...] = Field(
        (),
        description="LiteRT (TensorFlow Lite) files to push beside it: float16, int8; each is "
        "judged by itself, and left out when it is not good enough.",
    )
    max_loss: float = Field(
        0.005,
        ge=0,
        le=1,
        description="Validation accuracy that a LiteRT file may lose against the SavedModel.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Export:
        if len(set(self.lite)) < len(self.lite):
            raise ValueError(f"lite names a kind twice: {', '.join(self.lite)}")
        return self


class Push(Section):
    """Where blessed models go."""

    directory: str = Field("", description="Serving base path; empty: <out>/model.")
    keep: int = Field(3, ge=1, description="Versions kept; older ones are removed after a push.")


class Beam(Section):
    """The engine under the data components."""

    args: tuple[str, ...] = Field(
        (), description="Beam pipeline options, with --runner; empty: in this process."
    )


class Expect(Section):
    """What a run should give: printed beside its own result, and deciding nothing."""

    text: str = Field("", description="In words: whose result it is, and how it came about.")
    data: str = Field("", description="The data that is meant.")
    low: float | None = Field(None, ge=0, le=1, description="Accuracy, the lower end.")
    high: float | None = Field(None, ge=0, le=1, description="Accuracy, the upper end.")
    split: Literal["validation", "test"] = Field(
        "validation",
        description="Split that it is compared on; validation where the data has no test.",
    )
    time: str = Field("", description="How long a run takes, and where.")

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Expect:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not be above high, received {self.low} and {self.high}")
        return self
