"""What a component gets: one text with the settings that it reads, and what the plan knows.

TFX's cache compares this text besides the artifacts that a component reads. `READS` says what is in
the text of each component, so that it is at once the key of the cache and the list of what a
component depends on. A setting that a component reads and that is not listed there is missing from
its settings, so that reading it is an AttributeError instead of an outdated result.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from imgpipe.models.settings.override import Override
from imgpipe.models.settings.section import SettingsSection, declared
from imgpipe.models.settings.settings import Settings

#: By component: the sections and settings in its text, and the facts.
READS: Final[Mapping[str, tuple[str, ...]]] = {
    "ImageExampleGen": (
        *("data", "split", "gate.min_validation", "judge.pixel_limit", "judge.store", "run.out"),
        *("facts.vocabulary", "facts.fingerprint", "facts.code"),
    ),
    "ImageFilter": (
        *("judge.min_side", "judge.pixel_limit", "judge.severity", "judge.threshold"),
        *("facts.vocabulary", "facts.decisions", "facts.code"),
    ),
    "StatisticsGen": ("facts.code",),
    "SchemaGen": ("facts.accepted_schema", "facts.code"),
    "DataGate": (
        *("gate", "run.out"),
        *("facts.vocabulary", "facts.data_key", "facts.code"),
        *("facts.accepted_schema", "facts.accepted_data", "facts.accept_changes"),
        *("facts.data_version", "facts.data_digest"),
    ),
    "FeatureBank": (
        *("bank", "run.out", "model", "train.seed"),
        *("course.freeze", "course.views", "course.label_smoothing", "course.balance"),
        # Whether the head is solved, so that features are chosen for it.
        *("course.optimizer", "course.hidden_units", "course.target_accuracy"),
        *("course.steps_per_epoch", "course.strategy", "course.fine_tune.mode"),
        *("facts.vocabulary", "facts.weights_key", "facts.code"),
    ),
    "ImageTrainer": (
        *("run.name", "model", "train", "course", "evaluate.cross_validate"),
        *("facts.vocabulary", "facts.code"),
    ),
    "ServingValidator": ("facts.code",),
    "ImageEvaluator": (
        *("evaluate", "run.out"),
        *("facts.vocabulary", "facts.accept_changes", "facts.code"),
        *("facts.baseline_version", "facts.baseline_digest", "facts.no_baseline"),
    ),
    "ModelPusher": (
        *("push", "run", "model", "train.seed", "evaluate.threshold"),
        *("facts.vocabulary", "facts.fingerprint", "facts.run_key", "facts.baseline_version"),
    ),
    "Report": (*Settings.model_fields, "facts.vocabulary", "facts.fingerprint"),
}


class Facts(SettingsSection):
    """What the plan of a run knows, and the settings do not say.

    Attributes:
        vocabulary: Class names in sorted order.
        fingerprint: Fingerprint of all files of the source, by path and content; "" where nobody
            has computed it.
        code: Fingerprint of the package's source code and of the libraries that compute.
        decisions: Decisions of people about single images.
        accepted_schema: Schema by which the data is judged, "" to infer one.
        accepted_data: JSON of the data that was accepted last.
        accept_changes: 1 if a person accepts that the data differs from it, otherwise 0.
        data_version: Number of the version with whose data it is compared, 0 for none.
        data_digest: Fingerprint of the files of that version.
        data_key: Fingerprint of the data, its division into splits and its checks.
        weights_key: Fingerprint of everything but the images and the axes that are made of them
            that decides the features.
        run_key: Fingerprint of everything that decides the result of the run.
        baseline_version: Number of the version to compare with, 0 for none.
        baseline_digest: Fingerprint of the files of that version.
        no_baseline: Why there is none; "" if there is one.
    """

    vocabulary: tuple[str, ...] = ()
    fingerprint: str = ""
    code: str = ""
    decisions: tuple[Override, ...] = ()
    accepted_schema: str = ""
    accepted_data: str = "{}"
    accept_changes: int = 0
    data_version: int = 0
    data_digest: str = ""
    data_key: str = ""
    weights_key: str = ""
    run_key: str = ""
    baseline_version: int = 0
    baseline_digest: str = ""
    no_baseline: str = ""

    @functools.cached_property
    def _decisions_by_hash(self) -> Mapping[str, Override]:
        return {decision.image_hash: decision for decision in self.decisions}

    def decision_about(self, image_hash: str) -> Override | None:
        """Return the decision about an image, None if there is none.

        `image_hash` is "" for a file that could not be read.
        """
        return self._decisions_by_hash.get(image_hash)


class Given(NamedTuple):
    """The settings and the facts of a component."""

    settings: Settings = Settings()
    facts: Facts = Facts()

    def text(self, names: Collection[str]) -> str:
        """Write those settings and facts that are named, as in `READS`; Beam's workers read it."""
        tree = {
            **self.settings.model_dump(mode="json"),
            "facts": self.facts.model_dump(mode="json"),
        }
        chosen: dict[str, Any] = {}
        for name in names:
            value: Any = tree
            place = chosen
            *sections, key = name.split(".")
            for section in sections:
                value = value[section]
                place = place.setdefault(section, {})
            place[key] = value[key]
        # Sorted, because TFX's cache compares the text.
        return json.dumps(chosen, sort_keys=True)

    @classmethod
    def read(cls, text: str | Mapping[str, object]) -> Given:
        """Read what `text` has written; whatever it did not name is missing.

        Args:
            text: The text, or the object that it is.
        """
        tree = dict(json.loads(text) if isinstance(text, str) else text)
        facts: Any = tree.pop("facts", {})
        settings = Settings.model_validate(tree)
        _leave_out(settings, tree)
        given = cls(settings, Facts.model_validate_json(json.dumps(facts)))
        _leave_out(given.facts, facts)
        return given


def of_component(name: str, settings: Settings, facts: Facts) -> str:
    """Return the text of a component; see `READS`."""
    return Given(settings, facts).text(READS[name])


def _leave_out(section: BaseModel, given: Any) -> None:
    """Remove from a section what is not given, so that nobody reads a default instead."""
    for name, field in declared(section).items():
        if name not in given:
            del section.__dict__[name]
        elif declared(field.annotation):
            _leave_out(getattr(section, name), given[name])
