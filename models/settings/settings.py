"""The settings of a run, whole: all sections, and the questions that several of them answer.

They travel whole. A command builds them, the plan of a run passes them on, and commands, components
and training read the sections that they need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import PrivateAttr, model_validator

from imgpipe.models.backbones import Backbone
from imgpipe.models.backbones.registry import architecture
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.course import CourseSettings, StageSettings, ViewSpec
from imgpipe.models.settings.data import DataSettings, GateSettings, JudgeSettings, SplitSettings
from imgpipe.models.settings.model import (
    AUTO,
    AVERAGE,
    CLASS_TOKEN,
    COVARIANCE,
    TOKENS,
    WITHOUT_COVARIANCES,
    NetworkSettings,
    TrainSettings,
    check_vocabulary,
    one_block,
)
from imgpipe.models.settings.places import (
    DECISIONS,
    GATE_FILE,
    SCHEMA_FILE,
    VERSIONS,
    absolute_path,
)
from imgpipe.models.settings.running import (
    BankSettings,
    BeamSettings,
    EvaluateSettings,
    KubeflowSettings,
    PushSettings,
    RunSettings,
)
from imgpipe.models.settings.section import (
    AUTOMATIC,
    INPUT,
    OUTPUT,
    SettingsSection,
    declared,
    flat,
    marked,
)

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:/")  # `Path` makes one slash of two
_LARGER: Final = (9 / 7, 12 / 7)  # 288 and 384 instead of 224 pixels


class Settings(SettingsSection):
    """All settings of a run."""

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
    #: File of the axes of covariances, which FeatureBank makes; "" for none. Nobody sets it.
    _axes: str = PrivateAttr("")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse combinations in which a setting has no effect or another model is judged."""
        try:
            self._check_network()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if self.evaluate.cross_validate > 0 and not self.head_alone:
            raise ValueError(
                "evaluate.cross_validate evaluates heads that are solved on the features of a "
                "frozen backbone, but here layers are trained by epochs (course.freeze, "
                "course.hidden_units, course.optimizer, course.fine_tune.mode …). Set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _has_local_folders(self) -> Self:
        """Refuse addresses in place of folders, which would become a folder such as `gs:`."""
        values = dict(flat(self.model_dump()))
        for name in marked(Settings, INPUT, OUTPUT):
            given = values[name]
            if _ADDRESS.match(given):
                raise ValueError(
                    f"{name}: expected a path on this machine. Mount the bucket, and name the "
                    f"folder at which it is mounted. Received: {given!r}"
                )
        return self

    def __hash__(self) -> int:
        """Return a hash, which the dictionaries in some sections do not have."""
        return hash(self.model_dump_json())

    def but(self, **sections: Mapping[str, object]) -> Self:
        """Return the same settings with other values in some sections, which are not checked.

        Examples:
            >>> Settings().but(model={"image_size": 96}).size
            96
        """
        changed = {
            name: getattr(self, name).model_copy(update=dict(values))
            for name, values in sections.items()
        }
        return self.model_copy(update=changed)

    @property
    def has_threshold(self) -> bool:
        """Whether `evaluate.threshold` was given; otherwise a published version may have one."""
        return "threshold" in self.evaluate.model_fields_set

    # --- places ---------------------------------------------------------------------------------
    @property
    def places(self) -> Places:
        """Absolute paths of the run."""
        return Places(self)

    # --- the network ----------------------------------------------------------------------------
    def backbone_spec(self) -> Backbone:
        """Return the backbone with its weights and its cut. TensorFlow is not imported."""
        return Backbone(
            self.model.network,
            self.model.weights,
            weights_sha256=self.model.weights_sha256,
            cut=self.model.cut,
            seed=self.train.seed,
        )

    @property
    def size(self) -> int:
        """Side in pixels of the images that the backbone receives."""
        return self.model.image_size or self.backbone_spec().image_size

    @property
    def larger_sizes(self) -> tuple[int, ...]:
        """Sides in pixels of larger images that a run may choose, ascending multiples of 32.

        There are none where the size is given or where other weights would be needed.
        """
        spec = self.backbone_spec()
        if (
            self.model.image_size
            or self.model.weights != "imagenet"
            or architecture(spec.name).weights_by_size  # others would have to be downloaded
        ):
            return ()
        return tuple(round(factor * self.size / 32) * 32 for factor in _LARGER)

    @property
    def axes(self) -> str:
        """File of the axes of covariances, which FeatureBank has made; "" for none."""
        return self._axes

    def with_axes(self, file: str) -> Self:
        """Return the same settings with a file of axes; see `axes`."""
        copy = self.model_copy()
        copy._axes = file
        return copy

    # --- what the head reads --------------------------------------------------------------------
    @property
    def chooses_features(self) -> bool:
        """Whether folds choose what the head reads."""
        return self.model.features == AUTO and self.head_alone and self.backbone_spec().trained

    @property
    def largest_kind(self) -> str:
        """What the head may read at most: `model.features`, where "auto" is not decided yet."""
        if self.model.features != AUTO:
            return self.model.features
        class_token = self.backbone_spec().class_token
        if self.chooses_features:
            return TOKENS if class_token else COVARIANCE
        return CLASS_TOKEN if class_token else AVERAGE

    @property
    def reads_covariances(self) -> bool:
        """Whether the head may read covariances of the channels of feature maps."""
        return self.largest_kind not in WITHOUT_COVARIANCES

    @property
    def with_one_block(self) -> Self:
        """The settings of the networks of a search, whose heads read the first block alone."""
        return self.but(model={"features": one_block(self.largest_kind)})

    # --- the training ---------------------------------------------------------------------------
    @property
    def views(self) -> ViewSpec:
        """Settings of the augmented views; `count` is the most that are made."""
        return self.course.views.spec

    @property
    def stored_views(self) -> ViewSpec:
        """Settings of the views of which FeatureBank stores the features.

        A solved head gains nothing from augmented views beside covariances, so that it has them
        only where their number or a function that makes them is given.
        """
        given = self.course.views
        if given.count != AUTOMATIC or given.builder or not self.solved:
            return self.views
        return self.views.model_copy(update={"count": 0})

    @property
    def frozen(self) -> bool:
        """Whether the whole backbone is frozen, so that features can be stored."""
        if self.course.freeze == "auto":
            return self.backbone_spec().trained
        return self.course.freeze == "all"

    @property
    def solved(self) -> bool:
        """Whether the head is solved as a convex problem instead of trained by epochs."""
        # The loss is convex only for a linear head on fixed inputs. The other settings mean
        # something for training by epochs alone, so that setting one asks for epochs.
        course = self.course
        return (
            course.optimizer == "auto"
            and self.frozen
            and not course.hidden_units
            and not course.target_accuracy
            and not course.steps_per_epoch
            and course.strategy == "none"
        )

    @property
    def head_alone(self) -> bool:
        """Whether a solved head may be the result, without a stage that trains layers below it."""
        return self.solved and self.course.fine_tune.mode != "on"

    @property
    def searches(self) -> bool:
        """Whether the run may search for a network that is better than the solved head.

        Folds whose number is given judge heads, so that no other network is searched for.
        """
        return (
            self.solved
            and self.course.fine_tune.mode == "search"
            and self.train.minutes != 0
            and self.evaluate.cross_validate <= 0
        )

    @property
    def folds(self) -> int:
        """Number of folds that decide on the threshold; `AUTOMATIC` where ImageTrainer chooses.

        Folds say nothing about a network that is trained by epochs in any case.
        """
        given = self.evaluate.cross_validate
        return given if self.head_alone or given != AUTOMATIC else 0

    def second_stage(self) -> Self:
        """Return the settings of fine-tuning in the form of settings of a training."""
        stage = {name: getattr(self.course.fine_tune, name) for name in declared(StageSettings)}
        return self.but(course={**stage, "steps_per_epoch": 0, "target_accuracy": 0.0})

    # --- classes --------------------------------------------------------------------------------
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
        if self.course.activation == "sigmoid" and classes != 2:
            raise ConfigError(
                f"course.activation: sigmoid needs two classes, the vocabulary has {classes}. "
                "Use softmax or auto"
            )
        return classes == 2 and self.course.activation != "softmax"

    def _check_network(self) -> None:
        """Raise a ConfigError where one setting would leave another without effect."""
        self.backbone_spec()
        if self.course.fine_tune.mode == "on" and not self.frozen:
            raise ConfigError(
                "course.fine_tune.mode trains layers of a frozen backbone after the head, but here "
                'every layer trains from the start. Set it to "off", or course.freeze to "all"'
            )
        if self.course.feature_dropout and not self.course.hidden_units:
            raise ConfigError(
                "course.feature_dropout comes before a hidden layer, but course.hidden_units is 0. "
                "Use course.dropout for a linear head"
            )


@dataclass(frozen=True)
class Places:
    """Absolute paths of a run. A folder without a setting has its usual name in `run.out`."""

    settings: Settings

    @property
    def out(self) -> Path:
        """The output folder."""
        return absolute_path(self.settings.run.out)

    @property
    def versions(self) -> Path:
        """Base path of the published versions."""
        return self.out / VERSIONS

    @property
    def bank(self) -> Path:
        """Folder of the stored features."""
        return absolute_path(self.settings.bank.store or self.out / "bank")

    @property
    def judge(self) -> Path:
        """Folder of the inspection cache."""
        return absolute_path(self.settings.judge.store or self.out / "judge")

    @property
    def overrides(self) -> Path | None:
        """File of the decisions about single images; None if there is none."""
        given = self.settings.judge.overrides
        file = absolute_path(given or self.out / DECISIONS)
        return file if given or file.is_file() else None

    @property
    def outputs(self) -> dict[str, Path]:
        """The folders to which a run writes, by the setting that names each of them."""
        return {
            "run.out": self.out,
            "bank.store": self.bank,
            "judge.store": self.judge,
        }

    @property
    def schema(self) -> Path:
        """The accepted schema, whether or not it exists yet."""
        return self.out / "schema" / SCHEMA_FILE

    @property
    def features(self) -> Path:
        """Folder of what FeatureBank decides once: axes of covariances, and what a head reads."""
        return self.out / "features"

    @property
    def answers(self) -> Path:
        """Folder of the answers of models to the held-out images, which ImageEvaluator keeps."""
        return self.out / "answers"

    @property
    def decision(self) -> Path:
        """A copy of DataGate's decision, as TFX removes the outputs after an error."""
        return self.out / GATE_FILE
