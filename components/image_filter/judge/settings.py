"""The section `[judge]` of the configuration, and what ImageFilter gets."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model

from imgpipe.components.common.image_row import Severity
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.check import ImageCheck
from imgpipe.components.image_filter.judge.checks import CHOICES, THRESHOLDS
from imgpipe.components.image_filter.judge.checks.quality import NEAR_DUPLICATE_CHECK
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.models.settings.section import (
    INPUT,
    LARGEST,
    OUTPUT,
    ComponentPlan,
    SettingsSection,
)
from imgpipe.serving.look import PIXEL_LIMIT

if TYPE_CHECKING:
    from typing import TypeAlias

    Severities: TypeAlias = SettingsSection  # mypy cannot follow `create_model`
    Thresholds: TypeAlias = SettingsSection
else:  # from the checks themselves, so that a new check needs no line here
    Severities = create_model(
        "Severities",
        __base__=SettingsSection,
        __doc__="What happens to an image with a finding: reject, warn or ignore.",
        **{
            name: (
                Literal[check.may_be],
                Field(check.severity, description=f"{check.finds} ({', '.join(check.may_be)})."),
            )
            for name, check in CHOICES.items()
        },
    )
    Thresholds = create_model(
        "Thresholds",
        __base__=SettingsSection,
        __doc__="The values with which the checks compare their measurements.",
        **{
            name: (float, Field(usual, ge=0, description=f"{about[:1].upper()}{about[1:]}."))
            for name, (usual, about) in THRESHOLDS.items()
        },
    )


class JudgeSettings(SettingsSection):
    """Rules by which ImageFilter rejects images, stores them as PNG, or warns about them."""

    min_side: int = Field(
        16,  # small enough for data sets with images of 28 × 28 pixels
        ge=1,
        le=LARGEST,
        description="Minimum side of an image, in pixels.",
    )
    pixel_limit: int = Field(
        PIXEL_LIMIT,
        ge=1,
        le=LARGEST,
        description="Maximum number of pixels (width x height) of an image that is decoded, "
        "according to its header.",
    )
    overrides: Annotated[str, INPUT] = Field(
        "",
        description="File of decisions about single images (accept, reject, relabel), which are "
        "addressed by content hash. Labels of the test split never change. `imgpipe review` adds "
        "entries. Empty: <out>/overrides.toml, if there is such a file.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "",
        description="Folder of the inspection cache, which is kept across runs. Empty: "
        "<out>/judge.",
    )
    severity: Severities = Severities()
    threshold: Thresholds = Thresholds()

    def severity_of(self, reason: str, fixed: Severity = "warn") -> Severity:
        """Return what happens to an image with a finding; `fixed` where nobody can choose."""
        severity: Severity = getattr(self.severity, reason, fixed)
        return severity

    def limit_of(self, check: ImageCheck) -> float:
        """Return the number with which a check compares; 0 if it compares with none."""
        limit: float = (
            getattr(self, check.setting)
            if check.setting
            else getattr(self.threshold, check.name, 0.0)
        )
        return limit

    @property
    def radius(self) -> int:
        """Largest distance of near-duplicates in bits; 0 turns the search off."""
        return int(self.limit_of(NEAR_DUPLICATE_CHECK))


class FilterPlan(ComponentPlan):
    """What ImageFilter gets.

    Attributes:
        settings: Rules of the checks, without paths.
        vocabulary: Class names in sorted order.
        overrides: Decisions of people about single images, as `overrides.decisions` returns them.
    """

    settings: JudgeSettings = JudgeSettings()
    vocabulary: tuple[str, ...]
    overrides: tuple[Override, ...] = ()

    @functools.cached_property
    def overrides_by_hash(self) -> Mapping[str, Sequence[Override]]:
        """The overrides as `overrides.of_image` takes them."""
        return overrides.by_hash(self.overrides)

    def override_of(self, image_hash: str) -> Override | None:
        """Return the override of an image, None if there is none."""
        return next(iter(overrides.of_image(image_hash, self.overrides_by_hash)), None)
