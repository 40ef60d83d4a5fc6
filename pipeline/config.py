"""The one typed configuration: TOML in, validated pydantic models out.

Every field carries its documentation; ``imgpipe init`` writes it as comments. Unknown keys are
refused with the nearest right name, so that a typing error never silently becomes a default.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from components.checks import CHOICES, THRESHOLDS
from components.sources import absolute
from models.errors import ConfigError

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
    """Where the photographs are."""

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

    class Severities(Section):
        """What a finding leads to; one key a check."""

    class Thresholds(Section):
        """What a measurement is compared with; one key a check."""

else:  # the checks' own table, so that a new check needs no line here
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
    skip: tuple[str, ...] = Field(
        (), description="Checks that are not asked; the same as to ignore them, by name."
    )
    overrides: str = Field(
        "",
        description="File of decisions about single pictures (accept, reject, relabel) by content "
        "hash; imgpipe quarantine accept adds to it. Empty: none.",
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


class Views(Section):
    """Augmented views of each training image in the feature bank, beside the clean one."""

    count: int = Field(4, ge=0, le=32, description="Augmented views per image.")
    rotation: float = Field(40.0, ge=0, le=180, description="Degrees, to either side.")
    shifts: float = Field(0.2, ge=0, lt=1, description="Share of width and height, either way.")
    shear: float = Field(0.2, ge=0, lt=1, description="Horizontal shear factor, either way.")
    zoom: float = Field(0.2, ge=0, le=0.99, description="Zoom in or out by up to this share.")
    horizontal_flip: bool = Field(True, description="Mirror every other view.")
    fill: Literal["nearest", "reflect", "wrap", "constant"] = Field(
        "nearest", description="What lies outside the picture."
    )


class Bank(Section):
    """The feature bank: the frozen backbone, run once per image and view."""

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="bfloat16 where the CPU has it, else float32."
    )
    store: str = Field("", description="Where features survive runs; empty: <out>/bank.")


class Model(Section):
    """Backbone and head."""

    backbone: str = Field("efficientnet_lite0", description="Name in the backbone registry.")
    image_size: int = Field(
        224, ge=32, le=1024, description="Pixels, the side that the backbone sees."
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before the last layer.")
    hidden_units: int = Field(0, ge=0, description="Units of a hidden layer; 0: a linear head.")
    activation: Literal["auto", "softmax", "sigmoid"] = Field(
        "auto", description="auto: one sigmoid unit for two classes, softmax otherwise."
    )


class Train(Section):
    """How the head is trained."""

    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size.")
    batch_size: int = Field(128, ge=1, description="Bank records a step.")
    epochs: int = Field(60, ge=1, description="Upper limit; training stops earlier on a plateau.")
    patience: int = Field(8, ge=1, description="Epochs without a better validation loss.")
    target_accuracy: float | None = Field(
        None, gt=0, le=1, description="Stop once validation accuracy reaches this; unset: never."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share spread over all classes.")
    seed: int = Field(0, ge=0, description="Of weights, shuffling and dropout.")


class Evaluate(Section):
    """The gate of the model: what it takes to be blessed."""

    threshold: float = Field(0.9, ge=0, le=1, description="Validation accuracy to be reached.")
    max_drop: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Validation accuracy that may be lost against the last blessed model.",
    )


class Push(Section):
    """Where blessed models go."""

    directory: str = Field("", description="Serving base path; empty: <out>/model.")
    keep: int = Field(3, ge=1, description="Versions kept; older ones are removed after a push.")


class Beam(Section):
    """The engine under the data components."""

    args: tuple[str, ...] = Field(
        (), description="Beam pipeline options, with --runner; empty: in this process."
    )


class Config(Section):
    """A whole configuration; see each section."""

    run: Run = Run()
    data: Data = Data()
    split: Split = Split()
    judge: Judge = Judge()
    gate: Gate = Gate()
    views: Views = Views()
    bank: Bank = Bank()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    push: Push = Push()
    beam: Beam = Beam()

    @property
    def out(self) -> Path:
        """Absolute output folder."""
        return Path(self.run.out).expanduser().absolute()

    @property
    def push_directory(self) -> Path:
        """Absolute serving base path."""
        given = self.push.directory
        return Path(given).expanduser().absolute() if given else self.out / "model"

    @property
    def bank_store(self) -> Path:
        """Absolute folder of the content-addressed feature store."""
        given = self.bank.store
        return Path(given).expanduser().absolute() if given else self.out / "bank"

    @property
    def judge_store(self) -> Path:
        """Absolute folder of what is known of files by their content."""
        given = self.judge.store
        return Path(given).expanduser().absolute() if given else self.out / "judge"

    @property
    def overrides_file(self) -> Path | None:
        """Absolute path of the file of overrides, None for none."""
        given = self.judge.overrides
        return Path(given).expanduser().absolute() if given else None

    @property
    def schema_file(self) -> Path:
        """Absolute path of the accepted schema, whether or not it exists yet."""
        given = self.gate.schema_file
        if given:
            return Path(given).expanduser().absolute()
        return self.out / "schema" / "schema.pbtxt"

    @property
    def decision_file(self) -> Path:
        """Copy of DataGate's decision; TFX removes the outputs of a component that raised."""
        return self.out / "gate.json"


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """All dotted keys of the configuration, in the order of their definition."""
    keys = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _nearest(key: str) -> str:
    """A hint naming the known key most like `key`, by its whole or by its last part."""
    known = known_keys() if "." in key else [*Config.model_fields, *known_keys()]

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, key, candidate).ratio()
        last = key.rsplit(".", 1)[-1], candidate.rsplit(".", 1)[-1]
        return max(whole, difflib.SequenceMatcher(None, *last).ratio())

    best = max(known, key=likeness)
    if likeness(best) >= 0.6:
        return f"did you mean {best!r}?"
    return "known sections: " + ", ".join(Config.model_fields)


def _explain(error: ValidationError, where: str) -> ConfigError:
    """One line for each thing that is wrong, naming key, expectation and value."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}; {_nearest(key)}")
            continue
        text = problem["msg"].removeprefix("Value error, ")
        received = "" if problem["type"] == "value_error" else f" Received: {problem['input']!r}."
        lines.append(f"{key or 'config'}: {text[:1].lower()}{text[1:]}.{received}")
    return ConfigError(f"{where}: " + "\n".join(lines))


def _set(tree: dict[str, Any], assignment: str) -> None:
    """Apply one ``a.b=v``; `v` is a TOML value, or a plain string when it is not one."""
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set takes section.key=value. Received: {assignment!r}.")
    if key not in known_keys():
        raise ConfigError(f"--set {assignment}: unknown key {key!r}; {_nearest(key)}")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    node = tree
    *sections, last = key.split(".")
    for section in sections:
        node = node.setdefault(section, {})
    node[last] = value


def build(
    tree: Mapping[str, Any], assignments: Iterable[str] = (), where: str = "config"
) -> Config:
    """Validate a nested mapping, after applying ``--set`` assignments to a copy of it.

    Raises:
      ConfigError: with every unknown key and every bad value, by name.
    """
    copy: dict[str, Any] = json.loads(json.dumps(tree, default=str))
    for section, value in copy.items():
        if section in Config.model_fields and not isinstance(value, dict):
            raise ConfigError(
                f"{where}: {section!r} is a section: write [{section}] with keys below it. "
                f"Received: {value!r}."
            )
    for assignment in assignments:
        _set(copy, assignment)
    try:
        return Config.model_validate(copy)
    except ValidationError as error:
        raise _explain(error, where) from None


def load(path: Path, assignments: Iterable[str] = ()) -> Config:
    """Read a TOML file. Relative paths of ``[data]`` and ``judge.overrides`` start at its folder.

    Raises:
      ConfigError: the file is missing, is not TOML or does not validate.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    data = tree.get("data")
    if isinstance(data, dict):
        for key in ("source", "root", "tfds_dir"):
            if isinstance(data.get(key), str) and data[key]:
                data[key] = absolute(data[key], path.absolute().parent)
    judge = tree.get("judge")
    overrides = judge.get("overrides") if isinstance(judge, dict) else None
    if isinstance(judge, dict) and isinstance(overrides, str) and overrides:
        judge["overrides"] = str(path.absolute().parent / Path(overrides).expanduser())
    return build(tree, assignments, str(path))


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def to_toml(config: Config, notes: Mapping[str, str] | None = None) -> str:
    """A commented TOML text that loads back to `config`.

    Args:
      notes: extra comment lines by section name, written under the section's heading.
    """
    blocks = [_block(name, getattr(config, name), notes or {}) for name in Config.model_fields]
    return "\n\n".join(blocks) + "\n"


def _block(name: str, section: Section, notes: Mapping[str, str]) -> str:
    """A section and those below it."""
    lines = [f"[{name}]  # {(type(section).__doc__ or '').strip().splitlines()[0]}"]
    lines += [f"# {note}" for note in notes.get(name, "").splitlines()]
    below = []
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            below.append(_block(f"{name}.{key}", value, notes))
            continue
        lines.append(f"# {info.description}")
        unset = value is None
        lines.append(f"# {key} = 0.999" if unset else f"{key} = {_toml_value(value)}")
    return "\n\n".join(["\n".join(lines), *below])
