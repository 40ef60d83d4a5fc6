"""The facts of a run: what its components have found, each part as it is declared where it is made.

The summary (`--json`), the verdict and the page are made from the facts, and `facts.json` in the
folder of a run holds them. Runs that were refused or failed have facts too: a part is None or empty
if the run did not get that far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from imgpipe.components.data_gate.rules import DataDecision
    from imgpipe.components.image_evaluator.baseline import BaselineState
    from imgpipe.components.image_evaluator.decision import Decision
    from imgpipe.components.image_filter.data_summary import DataSummary
    from imgpipe.components.image_filter.judge.check import Row
    from imgpipe.components.model_pusher.push import Push
    from imgpipe.components.run_record.doubtful_labels import DoubtfulLabels
    from imgpipe.components.run_record.image_answers import ImageAnswers
    from imgpipe.components.run_record.metrics import DecidingAnswers, SliceGroup, SplitMetrics
    from imgpipe.components.run_record.run_folder import Identity
    from imgpipe.components.run_record.shown_images import Gallery, ImageMap, ShownNearDuplicates
    from imgpipe.components.serving_validator import ServingCheck
    from imgpipe.models.features.bank import BankFacts
    from imgpipe.models.training.history import Folds, History


class ShownSettings(TypedDict):
    """The settings of a run that its page and its verdict name."""

    name: str
    source: str
    vocabulary: list[str]
    cross_validate: int
    backbone: str
    image_size: int
    fingerprint: str
    seeds: dict[str, int]
    changed: dict[str, Any]


def page_settings(name: str, source: str, vocabulary: Sequence[str]) -> ShownSettings:
    """Return the settings of a page that is not about a run, such as that of `imgpipe check`."""
    return {
        "name": name,
        "source": source,
        "vocabulary": list(vocabulary),
        "cross_validate": 0,
        "backbone": "",
        "image_size": 0,
        "fingerprint": "",
        "seeds": {},
        "changed": {},
    }


class Facts(TypedDict):
    """What is known about a run; a part is None or empty if the run did not get that far."""

    settings: ShownSettings
    data: DataSummary | None
    data_gate: DataDecision | None
    rejected: list[Row]
    quarantine: str  # URI of the quarantine; "" without one
    bank: BankFacts | None
    suspects: DoubtfulLabels | None  # None with too few images for a ranking
    answers: ImageAnswers | None  # to every image; None without a feature bank
    training: History | None
    baseline: BaselineState | None
    gate: Decision | None
    serving: list[ServingCheck] | None
    push: Push | None
    metrics: dict[str, SplitMetrics]  # by split
    slices: list[SliceGroup]
    deciding: DecidingAnswers | None  # None without a model that answers
    identity: Identity | None
    near: ShownNearDuplicates | None  # None if near-duplicates were not searched for
    galleries: list[Gallery]  # by class; empty without a feature bank
    map: ImageMap | None  # None without features, or with too few images


def empty(settings: ShownSettings) -> Facts:
    """Return the facts of a run of which nothing is known but its settings."""
    return {
        "settings": settings,
        "data": None,
        "data_gate": None,
        "rejected": [],
        "quarantine": "",
        "bank": None,
        "suspects": None,
        "answers": None,
        "training": None,
        "baseline": None,
        "gate": None,
        "serving": None,
        "push": None,
        "metrics": {},
        "slices": [],
        "deciding": None,
        "identity": None,
        "near": None,
        "galleries": [],
        "map": None,
    }


def folds_of(facts: Facts) -> Folds | None:
    """Return the cross-validation of a run; None where the validation split decides."""
    return facts["training"]["cross_validation"] if facts["training"] is not None else None
