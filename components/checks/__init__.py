"""The checks that judge each image, in the order in which they are asked.

A new check is one module with a `CHECK` and one line in `CHECKS`. Duplicates are judged in groups,
by `components.checks.duplicates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.checks import (
    animated,
    decodable,
    misnamed,
    no_label,
    pixel_limit,
    source_problem,
    too_small,
    unreadable,
    zero_byte,
)
from components.checks.base import Check, Record, Settings, Verdict
from models.errors import ConfigError

__all__ = ["CHECKS", "Check", "Judgement", "Record", "Settings", "Verdict", "judge", "validate"]

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
)


@dataclass(frozen=True)
class Judgement:
    """All that the checks said of one record."""

    reject: Verdict | None = None
    override: str = ""  # of the check that rejected
    repair: Verdict | None = None
    warnings: tuple[Verdict, ...] = ()


def validate(settings: Settings) -> None:
    """ConfigError when `settings.skip` names something that is no check, or one that must stay."""
    may_skip = [check.name for check in CHECKS if check.skippable]
    wrong = [name for name in settings.skip if name not in may_skip]
    if wrong:
        raise ConfigError(
            f"judge.skip: {', '.join(wrong)} cannot be skipped; expected any of "
            + ", ".join(may_skip)
        )


def judge(record: Record, settings: Settings, checks: Sequence[Check] = CHECKS) -> Judgement:
    """Ask the checks in order, up to the first that rejects."""
    repair: Verdict | None = None
    warnings: list[Verdict] = []
    for check in checks:
        if check.name in settings.skip:
            continue
        verdict = check.judge(record, settings)
        if verdict is None:
            continue
        if verdict.severity == "reject":
            return Judgement(verdict, check.override)
        if verdict.severity == "repair":
            repair = verdict
        else:
            warnings.append(verdict)
    return Judgement(repair=repair, warnings=tuple(warnings))
