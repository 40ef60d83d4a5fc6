"""The checks that judge each image, in the order in which they are asked.

A new check is one module with a `CHECK` and one line in `CHECKS`. Duplicates are judged in groups,
by `imgpipe.components.image_filter.identical_files`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgpipe.components.image_filter.check import Check, Record, Settings, Severity, Verdict
from imgpipe.components.image_filter.checks import (
    alpha,
    animated,
    cmyk,
    decodable,
    misnamed,
    no_label,
    orientation,
    pixel_limit,
    sixteen_bit,
    source_problem,
    too_small,
    unreadable,
    zero_byte,
)
from imgpipe.components.image_filter.checks.quality import (
    blurry,
    dark,
    greyscale,
    light,
    low_information,
    odd_aspect_ratio,
    odd_size,
)
from imgpipe.components.image_filter.near_duplicates import groups as near
from imgpipe.components.image_filter.near_duplicates.search import RADIUS
from imgpipe.components.image_filter.overrides import Override, find
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ConfigError

__all__ = [
    "CHECKS",
    "CHOICES",
    "THRESHOLDS",
    "Check",
    "Choice",
    "Judgement",
    "Record",
    "Settings",
    "Verdict",
    "judge",
    "mended",
    "override_of",
    "reviewed",
    "validate",
]

#: First reject ends the questions, so what explains a file best comes first.
CHECKS: tuple[Check, ...] = (
    unreadable.CHECK,
    zero_byte.CHECK,
    pixel_limit.CHECK,
    decodable.CHECK,
    too_small.CHECK,
    animated.CHECK,
    source_problem.CHECK,
    no_label.CHECK,
    misnamed.CHECK,
    alpha.CHECK,
    cmyk.CHECK,
    sixteen_bit.CHECK,
    orientation.CHECK,
    dark.CHECK,
    light.CHECK,
    low_information.CHECK,
    blurry.CHECK,
    odd_aspect_ratio.CHECK,
    odd_size.CHECK,
    greyscale.CHECK,
)
REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_ADVICE = "remove its entry from the file that judge.overrides names"


@dataclass(frozen=True)
class Choice:
    """What the config may say of one kind of finding."""

    usual: Severity
    may_be: tuple[Severity, ...]
    about: str  # for the config file


_NEAR: tuple[Severity, ...] = ("reject", "warn", "ignore")
#: Everything that `judge.severity` may name: the checks with a choice, and findings of others.
CHOICES: Mapping[str, Choice] = {
    **{
        check.name: Choice(check.severity, check.may_be, check.finds)
        for check in CHECKS
        if len(check.may_be) > 1
    },
    decodable.TRANSCODED: Choice(
        "repair", ("repair", "reject"), "Read by Pillow alone; repair: stored as PNG"
    ),
    **{name: Choice(near.SEVERITIES[name], _NEAR, near.ABOUT[name]) for name in near.SEVERITIES},
}
#: Everything that `judge.threshold` may name, with its usual value and what is compared with it.
THRESHOLDS: Mapping[str, tuple[float, str]] = {
    **{c.name: (c.threshold, c.about) for c in CHECKS if c.threshold is not None},
    near.NEAR: (RADIUS, "bits of 256 in which near-duplicates may differ; 0: none are looked for"),
}


@dataclass(frozen=True)
class Judgement:
    """All that the checks said of one record."""

    reject: Verdict | None = None
    override: str = ""  # of the check that rejected
    repairs: tuple[Verdict, ...] = ()  # in the order in which they are to be done; see `mended`
    warnings: tuple[Verdict, ...] = ()
    likeness: bytes | None = None  # perceptual hashes of what a transcoded file shows

    @property
    def repair(self) -> Verdict | None:
        """The first repair."""
        return self.repairs[0] if self.repairs else None


def validate(settings: Settings) -> None:
    """ConfigError when a setting names something that is no check, or may not be set so."""
    for name, severity in settings.severity.items():
        may_be = CHOICES[name].may_be if name in CHOICES else ()
        if severity not in may_be:
            expected = f"one of {', '.join(may_be)}" if may_be else "any of " + ", ".join(CHOICES)
            raise ConfigError(f"judge.severity: {name} = {severity!r}; expected {expected}")
    if unknown := [name for name in settings.threshold if name not in THRESHOLDS]:
        raise ConfigError(
            f"judge.threshold: {', '.join(unknown)}; expected any of {', '.join(THRESHOLDS)}"
        )


def override_of(record: Record, settings: Settings) -> Override | None:
    """What people decided about this picture, None when they did not."""
    return find(settings.overrides, record.image_hash)


def reviewed(record: Record, settings: Settings) -> Record:
    """The record with the label that people gave it; what its source said of the old one falls.

    A label of the test split never changes: an override there would move the figure that is there
    to check all other choices.
    """
    override = override_of(record, settings)
    if override is None or override.verdict != "relabel" or record.split == names.TEST:
        return record
    return dataclasses.replace(
        record,
        label=override.label,
        label_index=override.label_index,
        problem="" if source_problem.is_about_label(record.problem) else record.problem,
    )


def judge(record: Record, settings: Settings, checks: Sequence[Check] = CHECKS) -> Judgement:
    """Ask the checks in order, up to the first that rejects.

    What people accepted is neither rejected nor warned of by a check that has a choice; a file
    that cannot be used stays rejected whatever anybody says.
    """
    override = override_of(record, settings)
    accepted = override is not None and override.verdict == "accept"
    repairs: list[Verdict] = []
    warnings: list[Verdict] = []
    for check in checks:
        severity = check.severity_in(settings)
        if severity == "ignore" or (accepted and check.skippable):
            continue
        verdict = check.judge(record, settings)
        if verdict is None:
            continue
        if verdict.data is not None:
            repairs.append(verdict)
        elif severity == "reject":
            return Judgement(verdict, check.override)
        elif severity == "repair":
            repairs.append(dataclasses.replace(verdict, severity="repair", mend=check.mend))
        else:
            warnings.append(dataclasses.replace(verdict, severity="warn"))
    if override is not None and override.verdict == "reject":
        detail = "rejected by an override"
        return Judgement(Verdict(REVIEWED, detail), _REVIEWED_ADVICE)
    return Judgement(repairs=tuple(repairs), warnings=tuple(warnings))


def mended(
    record: Record, judgement: Judgement
) -> tuple[bytes, tuple[Verdict, ...], tuple[Verdict, ...]]:
    """The bytes of a record after its repairs, those that worked, and warnings of the others."""
    data = record.data
    done: list[Verdict] = []
    failed: list[Verdict] = []
    for repair in judgement.repairs:
        try:
            if repair.data is not None:
                data = repair.data
            elif repair.mend is not None:
                data = repair.mend(record, data)
        except Exception as error:  # Pillow's plugins raise anything on odd files
            detail = f"{repair.detail}; not mended: {error or type(error).__name__}"
            failed.append(Verdict(repair.reason, detail, "warn"))
        else:
            done.append(repair)
    return data, tuple(done), tuple(failed)
