"""The checks of images. A registry finds them in the files of this folder.

A new check is one new file with an `ImageCheck`: what it needs, its threshold, its finding and its
remedy. What it measures anew is a function and a row in `image_file/pixels.py`. The
configuration and the filter use the tables below.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from pydantic.fields import FieldInfo

from imgpipe.components.image_filter.judge.check import ImageCheck
from imgpipe.components.image_filter.judge.checks.files import NOT_ABOUT_LABEL
from imgpipe.components.image_filter.judge.checks.quality import NEAR_DUPLICATE_ACROSS_SPLITS
from imgpipe.models.settings.data import JudgeSettings, Severity

_modules = pkgutil.iter_modules(__path__, f"{__name__}.")
_values = (vars(importlib.import_module(module.name)).values() for module in _modules)
_checks = itertools.chain.from_iterable(_values)
_by_name = {check.name: check for check in _checks if isinstance(check, ImageCheck)}
#: The checks in the order in which they are run. The first rejection is the last check of an image,
#: so a check that explains a problem better than others comes before them: `decodable` says more
#: than `damaged` of a file that nobody reads. A check that is not listed comes after these.
_ORDER = (
    *("unreadable", "zero_byte", "pixel_limit", "hidden_cost", "decodable", "damaged"),
    *("too_small", "animated", "source_problem", "no_label"),
    *("alpha", "colours"),
    *("dark", "light", "low_information", "blurry", "odd_aspect_ratio", "greyscale"),
    *("near_duplicate_across_splits", "near_duplicate"),
)
_listed = [_by_name[name] for name in _ORDER]
_others = [_by_name[name] for name in sorted(_by_name) if name not in _ORDER]
#: All checks, in the order in which they are run.
CHECKS: tuple[ImageCheck, ...] = (*_listed, *_others)
#: Checks that `judge.severity` may name.
CHOICES: Mapping[str, ImageCheck] = {check.name: check for check in CHECKS if len(check.may_be) > 1}
#: Findings in a few words, by reason, where the reason itself is no such words.
TITLES: Mapping[str, str] = {
    reason: title for check in CHECKS for reason, title in check.titles.items()
}
#: Reasons that no override can change, because the file cannot be used.
UNUSABLE: frozenset[str] = frozenset(reason for check in CHECKS for reason in check.unusable)
#: Checks that `judge.threshold` may name.
THRESHOLDS: Mapping[str, ImageCheck] = {
    check.name: check for check in CHECKS if check.threshold is not None
}


def severity_of(reason: str, settings: JudgeSettings) -> Severity:
    """Return what happens to an image with a finding; a warning where nobody can choose."""
    check = CHOICES.get(reason)
    return "warn" if check is None else check.severity_in(settings)


def fields_of_checks() -> dict[str, FieldInfo]:
    """Return the settings that the checks themselves declare, by `section.key`.

    They are the keys of two tables, `judge.severity` and `judge.threshold`.
    """
    severities = {
        f"judge.severity.{name}": FieldInfo(
            annotation=Literal[check.may_be],  # type: ignore[arg-type]
            default=check.severity,
            description=f"{check.finds} ({', '.join(check.may_be)}).",
        )
        for name, check in CHOICES.items()
    }
    thresholds = {
        f"judge.threshold.{name}": FieldInfo(
            annotation=Annotated[float, Field(ge=0)],
            default=check.threshold,
            description=f"{check.about[:1].upper()}{check.about[1:]}.",
        )
        for name, check in THRESHOLDS.items()
    }
    return {**severities, **thresholds}


def obstacle(reason: str, remedy: str, relabel: bool) -> str:
    """Return why an override would have no effect on a rejected file, otherwise "".

    Args:
        reason: Reason of the rejection.
        remedy: What to do to keep the file.
        relabel: Whether the override gives the file another label.
    """
    if reason in UNUSABLE:
        return f"{reason}: an override cannot make it readable; {remedy}"
    if relabel and reason in NOT_ABOUT_LABEL:
        return f"{reason}: another label does not change that; {remedy}"
    if relabel and reason == NEAR_DUPLICATE_ACROSS_SPLITS:
        return f"{reason}: another label does not change that; accept it without one, or {remedy}"
    choice = CHOICES.get(reason)
    if relabel or (choice is not None and "ignore" in choice.may_be):
        return ""
    return f"{reason}: {remedy}"
