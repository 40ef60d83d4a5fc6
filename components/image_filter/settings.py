"""What ImageFilter gets: the section `[judge]`, and what the plan of a run adds."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.models.settings.section import ComponentPlan


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
    def overrides_by_hash(self) -> Mapping[str, Override]:
        """The overrides as `overrides.override_of` takes them."""
        return overrides.by_hash(self.overrides)

    def override_of(self, image_hash: str) -> Override | None:
        """Return the override of an image, None if there is none."""
        return overrides.override_of(image_hash, self.overrides_by_hash)
