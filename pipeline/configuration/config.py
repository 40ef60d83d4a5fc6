"""Reads and validates the configuration; `given_settings.py` writes it.

Each section is declared where it acts: beside its component, in `models/settings/`, or in this
folder. An unknown key is an error that names the most similar known key, so that a typo never leads
to a default without notice.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo

from imgpipe.components.common.splits import SplitRule, SplitSettings
from imgpipe.components.data_gate.settings import GateSettings
from imgpipe.components.example_gen.settings import DataSettings
from imgpipe.components.example_gen.sources import absolute_spec
from imgpipe.components.feature_bank.settings import BankSettings
from imgpipe.components.image_evaluator.settings import EvaluateSettings
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.components.model_pusher.settings import VERSIONS, PushSettings
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.course import CourseSettings, EpochSettings
from imgpipe.models.settings.model import ModelSettings, NetworkSettings, TrainSettings
from imgpipe.models.settings.section import (
    AUTOMATIC,
    INPUT,
    OUTPUT,
    PLACE,
    SettingsSection,
    declared,
    describe,
)
from imgpipe.pipeline.configuration.sections import (
    DECISIONS,
    BeamSettings,
    KubeflowSettings,
    Places,
    RunSettings,
    absolute_path,
)

_SHOWN = 200  # most characters of a value in a message
WEIGHT_FILES = (".h5", ".keras")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # `Path` makes one slash of two


class Config(SettingsSection):
    """A complete configuration."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    judge: JudgeSettings = JudgeSettings()
    gate: GateSettings = GateSettings()
    bank: BankSettings = BankSettings()
    model: NetworkSettings = NetworkSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    push: PushSettings = PushSettings()
    beam: BeamSettings = BeamSettings()
    kubeflow: KubeflowSettings = KubeflowSettings()
    course: CourseSettings = CourseSettings()

    @model_validator(mode="after")
    def _go_together(self) -> Config:
        """Refuse combinations in which a setting has no effect or another model is judged."""
        try:
            self.settings.check_together()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.evaluate.cross_validate > 0 and not self.settings.head_alone:
            raise ValueError(
                "evaluate.cross_validate evaluates heads that are solved on the features of a "
                "frozen backbone, but here layers are trained by epochs (course.freeze, "
                "course.hidden_units, course.optimizer, course.fine_tune.mode …). Set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _has_local_folders(self) -> Config:
        """Refuse addresses in place of folders, which would become a folder such as `gs:`."""
        values = dict(flat(self.model_dump()))
        for name in marked(INPUT, OUTPUT):
            given = values[name]
            if _ADDRESS.match(given):
                raise ValueError(
                    f"{name}: expected a path on this machine. Mount the bucket, and name the "
                    f"folder at which it is mounted. Received: {given!r}"
                )
        return self

    @functools.cached_property
    def settings(self) -> ModelSettings:
        """Settings of the network and its training, with an absolute path of the weights.

        Folds judge heads, so no other network is searched for if they decide.
        """
        model = dataclasses.asdict(self.model)
        fine_tune = self.course.fine_tune
        if self.evaluate.cross_validate > 0 and fine_tune.mode == "search":
            fine_tune = dataclasses.replace(fine_tune, mode="off")
        for name, path in _absolute_paths({"model": model}, (), Path.cwd()).items():
            model[name.removeprefix("model.")] = path
        return ModelSettings(
            name=self.run.name,
            **model,
            **dataclasses.asdict(self.train),
            **{name: getattr(self.course, name) for name in declared(EpochSettings)},
            fine_tune=fine_tune,
            views=self.course.views.spec,
        )

    @property
    def folds(self) -> int:
        """Number of folds that decide on the threshold; `AUTOMATIC` where ImageTrainer chooses.

        Folds say nothing about a network that is trained by epochs in any case.
        """
        given = self.evaluate.cross_validate
        return given if self.settings.head_alone or given != AUTOMATIC else 0

    @functools.cached_property
    def stored_features(self) -> ModelSettings:
        """Settings of the features that FeatureBank stores.

        A solved head gains nothing from augmented views beside covariances, so that it has them
        only where their number or a function that makes them is given.
        """
        settings, views = self.settings, self.course.views
        if views.count != AUTOMATIC or views.builder or not settings.solved:
            return settings
        return dataclasses.replace(settings, views=dataclasses.replace(settings.views, count=0))

    @functools.cached_property
    def split_rule(self) -> SplitRule:
        """Rule by which images are assigned to splits."""
        return self.split.rule(self.gate.min_validation)

    @property
    def has_threshold(self) -> bool:
        """Whether `evaluate.threshold` was given; otherwise a published version may have one."""
        return "threshold" in self.evaluate.model_fields_set

    # Not cached: a review may begin the file of overrides while the configuration is in use.
    @property
    def places(self) -> Places:
        """Absolute paths of the run; a folder without a setting has its usual name in `run.out`."""
        out = absolute_path(self.run.out)
        overrides = absolute_path(self.judge.overrides or out / DECISIONS)
        return Places(
            out,
            versions=out / VERSIONS,
            bank=absolute_path(self.bank.store or out / "bank"),
            judge=absolute_path(self.judge.store or out / "judge"),
            overrides=overrides if self.judge.overrides or overrides.is_file() else None,
        )

    def with_absolute_paths(self) -> Config:
        """Return the same configuration with absolute paths, which do not depend on a folder."""
        names = marked(INPUT, OUTPUT, PLACE)
        tree = self.model_dump()
        if not self.has_threshold:
            del tree["evaluate"]["threshold"]
        return build(tree, _absolute_paths(tree, names, Path.cwd()))


def flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their dotted keys, such as `("course.epochs", 30)`."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def put(tree: dict[str, object], name: str, value: object) -> None:
    """Set the value of a name such as `course.epochs` in nested tables.

    Raises:
        ConfigError: A section of the name is not a table.
    """
    *tables, key = name.split(".")
    for table in tables:
        below = tree.setdefault(table, {})
        if not isinstance(below, dict):
            raise ConfigError(f"{table!r} is a section with keys below it. Received: {below!r}.")
        tree = below
    tree[key] = value


def fields(section: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield all settings below a section with their dotted keys, in the order of declaration."""
    for name, field in declared(section).items():
        if declared(field.annotation):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def known_keys() -> list[str]:
    """All dotted keys of the configuration, in the order of their declaration."""
    return [key for key, _ in fields(Config)]


def marked(*marks: str) -> list[str]:
    """Return the keys of settings that are paths with one of these marks; see `section.py`."""
    return [key for key, field in fields(Config) if set(marks) & set(map(str, field.metadata))]


def changed(config: Config) -> dict[str, object]:
    """Return the settings that differ from their defaults, except folders of outputs."""
    differing = flat(config.model_dump(mode="json", exclude_defaults=True))
    outputs = marked(OUTPUT)
    return {name: value for name, value in differing if name not in outputs}


def unknown(key: str) -> str:
    """Return a sentence about an unknown key, with the known key that is most similar."""
    keys = known_keys()
    inside = [name for name in keys if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a section; expected one of its keys, such as {inside[0]!r}."

    def similarity(candidate: str) -> float:
        last = key.rpartition(".")[2], candidate.rpartition(".")[2]
        pairs = ((key, candidate), last)
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    best = max([*Config.model_fields, *keys], key=similarity)
    if similarity(best) >= 0.6:  # difflib's own cutoff for close matches
        return f"unknown key {key!r}; did you mean {best!r}?"
    return f"unknown key {key!r}; known sections: {', '.join(Config.model_fields)}"


def _explain(error: ValidationError, where: str) -> ConfigError:
    """Error with one line for each problem: key, expected and received value."""
    by_key = dict(fields(Config))
    lines = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(unknown(key))
            continue
        if problem["type"] == "string_pattern_mismatch" and key in by_key:
            # Instead of the regular expression, which few people read.
            expected = (by_key[key].description or "").split(". ")[0].removesuffix(".")
            problem["msg"] = f"Expected: {expected}"
        lines.append(f"{describe(problem, _SHOWN)}.")
    return ConfigError(f"{where}: " + "\n".join(lines))


def build(
    tree: Mapping[str, object],
    given: Mapping[str, object] | None = None,
    where: str = "config",
) -> Config:
    """Validate a nested mapping, with other values of some settings.

    Args:
        tree: Sections and settings by name.
        given: Values by `section.key`, which replace those of the mapping.
        where: Name of the mapping in messages, such as the path of a file.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: A key is unknown or a value is wrong. The message names all that are wrong in
            the mapping, or, if nothing is, all that are wrong with the values of `given`.
    """
    # A deep copy through JSON, in which TOML's dates are texts; no setting is a date.
    copy: dict[str, object] = json.loads(json.dumps(tree, default=str))
    for section, value in copy.items():
        if section in Config.model_fields and not isinstance(value, dict):
            raise ConfigError(
                f"{where}: {section!r} is a section: write [{section}] with keys below it. "
                f"Received: {value!r}."
            )
    for name, value in (given or {}).items():
        put(copy, name, value)
    try:
        return Config.model_validate(copy)
    except ValidationError as error:
        if given:
            build(tree, where=where)
            where = "arguments"
        raise _explain(error, where) from None


def load(path: Path, given: Mapping[str, object] | None = None) -> Config:
    """Read a TOML file.

    Relative paths of inputs, which are those in `[data]`, `model.weights`, `judge.overrides` and
    the folder of a preset in `model.backbone`, are relative to the folder of the file.

    Args:
        path: The TOML file.
        given: Values by `section.key`, which replace those of the file.

    Returns:
        The validated configuration.

    Raises:
        ConfigError: The file is missing, is not TOML or does not validate.
    """
    tree = _read(path)
    paths = _absolute_paths(tree, marked(INPUT, PLACE), path.absolute().parent)
    for name, value in paths.items():
        put(tree, name, value)
    return build(tree, given, str(path))


def _absolute_paths(
    tree: Mapping[str, object], names: Iterable[str], folder: Path
) -> dict[str, str]:
    """Return the settings `names`, and weights and backbone if they are paths, as absolute paths.

    Values of `tree` may be missing or have a wrong type; empty ones stay empty, to follow
    `run.out`. Relative paths start at `folder`.
    """
    values = {name: value for name, value in flat(tree) if isinstance(value, str)}
    paths = {name: absolute_spec(values[name], folder) for name in names if values.get(name)}
    weights = values.get("model.weights", "")
    if weights.endswith(WEIGHT_FILES):
        paths["model.weights"] = absolute_spec(weights, folder)
    preset = presets.folder_of(values.get("model.backbone", ""))
    if preset:
        paths["model.backbone"] = presets.PREFIX + absolute_spec(preset, folder)
    return paths


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Windows editors write a byte order mark
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from None
    except (ValueError, RecursionError) as error:  # the parser calls itself for each bracket
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
