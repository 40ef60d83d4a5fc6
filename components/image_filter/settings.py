"""The section `[judge]` of the configuration, and what ImageFilter gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model

from imgpipe.components.common.settings import LARGEST, ComponentPlan, SettingsSection
from imgpipe.components.common.splits import Groups
from imgpipe.components.image_filter.check import JudgeSettings
from imgpipe.components.image_filter.checks import CHOICES, THRESHOLDS
from imgpipe.components.image_filter.overrides import Override
from imgpipe.models.limits import INPUT, OUTPUT
from imgpipe.serving.refused_image import PIXEL_LIMIT

if TYPE_CHECKING:
    from typing import TypeAlias

    Severities: TypeAlias = SettingsSection  # mypy cannot follow `create_model`
    Thresholds: TypeAlias = SettingsSection
else:  # from the checks themselves, so that a new check needs no line here
    Severities = create_model(
        "Severities",
        __base__=SettingsSection,
        __doc__="What happens to an image with a finding: reject, repair, warn or ignore.",
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
        __base__=SettingsSection,
        __doc__="The values with which the checks compare their measurements.",
        **{
            name: (float, Field(usual, ge=0, description=f"{about[:1].upper()}{about[1:]}."))
            for name, (usual, about) in THRESHOLDS.items()
        },
    )


class JudgeSection(SettingsSection):
    """Rules by which ImageFilter rejects, repairs and warns about images."""

    min_side: int = Field(
        JudgeSettings.min_side,
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

    def checks(self, groups: Groups) -> JudgeSettings:
        """Return what the checks read."""
        return JudgeSettings(
            min_side=self.min_side,
            pixel_limit=self.pixel_limit,
            severity=self.severity.model_dump(exclude_defaults=True),
            threshold=self.threshold.model_dump(exclude_defaults=True),
            groups=groups,
        )


class FilterPlan(ComponentPlan):
    """What ImageFilter gets.

    Attributes:
        settings: Rules of the checks, without paths.
        groups: How images that belong together are found.
        vocabulary: Class names in sorted order.
        overrides: Decisions of people about single images, without paths and notes.
    """

    settings: JudgeSection = JudgeSection()
    groups: Groups = "auto"
    vocabulary: tuple[str, ...]
    overrides: tuple[Override, ...] = ()
