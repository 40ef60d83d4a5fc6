"""The types that checks consist of: findings and the check itself.

A check takes the row of one image and returns at most one finding. The registry in
`checks/__init__.py` finds the checks in the files of `checks/`. Checks need neither Beam nor TFX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.models.settings.data import JudgeSettings, Severity

#: Severities of a check that warns: what it finds is still usable.
WARN: tuple[Severity, ...] = ("warn", "reject", "ignore")
#: What a check needs: the header and the bytes, the decoded pixels, or all images of the source.
Needs = Literal["header", "pixels", "set"]
#: What the function of a check returns: what was found in words, a finding if it has a score or
#: another reason than the name of the check, or None if there is no problem.
CheckResult = ImageFinding | str | None
#: Function from the row of an image and from what the check compares with to what it found.
JudgeImage = Callable[[ImageRow, Any], CheckResult]


@dataclass(frozen=True)
class ImageCheck:
    """A check.

    Attributes:
        name: Name in the configuration, and usually the reason of the findings.
        needs: What the check needs. A check that needs pixels is run only for decoded images, which
            have all measurements. What needs the set is found when all images are compared.
        judge: Function from a row and the number with which the check compares (its threshold or
            `setting`) to what it found. None for near-duplicates, which `copies` finds.
        remedy: What to do to keep the image.
        severity: Default severity.
        may_be: Severities that the configuration may set.
        finds: What the check reports, for the configuration file.
        threshold: Default threshold of a check that compares a number.
        setting: Setting of `[judge]` with which the check compares instead of a threshold.
        about: What the threshold is compared with.
        titles: In a few words, the findings whose reasons do not say what a person would see.
        unusable: Reasons of findings that no override can change, because the file cannot be used.
    """

    name: str
    needs: Needs
    judge: JudgeImage | None
    remedy: str
    severity: Severity = "reject"
    may_be: tuple[Severity, ...] = ("reject",)
    finds: str = ""
    threshold: float | None = None
    setting: str = ""
    about: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()

    def severity_in(self, settings: JudgeSettings) -> Severity:
        """Return what happens to an image with its finding."""
        return settings.severity.get(self.name, self.severity)

    def limit_in(self, settings: JudgeSettings) -> float:
        """Return the number with which it compares; 0 if it compares with none."""
        if self.setting:
            return float(getattr(settings, self.setting))
        return settings.threshold.get(self.name, self.threshold or 0.0)

    def run(self, image: ImageRow, settings: JudgeSettings) -> ImageFinding | None:
        """Return what the check finds in an image; it sets neither severity nor remedy."""
        result = self.judge(image, self.limit_in(settings)) if self.judge is not None else None
        return ImageFinding(self.name, result) if isinstance(result, str) else result


def usual_remedy(name: str) -> str:
    """Return what to do about the findings of a check that only warns."""
    return (
        f"look at them; to leave them out: --set judge.severity.{name}=reject; to "
        f"hear no more of them: --set judge.severity.{name}=ignore"
    )


def check(needs: Needs, remedy: str = "", **options: Any) -> Callable[[JudgeImage], ImageCheck]:
    """Make a check of a function, whose name is that of the check.

    The first line of its docstring says what the check finds, also in the configuration file. The
    findings of a check that warns may be rejected or ignored instead.

    Args:
        needs: See `ImageCheck`.
        remedy: See `ImageCheck`. Default: `usual_remedy`.
        **options: The other attributes of `ImageCheck`.
    """

    def check_of(judge: JudgeImage) -> ImageCheck:
        finds = (judge.__doc__ or "").partition("\n")[0].removesuffix(".")
        name = judge.__name__
        todo = remedy or usual_remedy(name)
        made_check = ImageCheck(name, needs, judge, todo, finds=finds, **options)
        only_warns = made_check.severity == "warn" and "may_be" not in options
        return dataclasses.replace(made_check, may_be=WARN) if only_warns else made_check

    return check_of
