"""Problems that the source reports.

These are two labels, splits or groups for one file, a label that is not in `data.classes`, and a
group whose files are in several splits of the source. The source gives the reason and the detail.
"""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import (
    GROUP_ACROSS_SPLITS,
    OUTSIDE_CLASSES,
    TWO_GROUPS,
    TWO_LABELS,
    TWO_SPLITS,
    ImageRecord,
)

_ABOUT_LABEL = (TWO_LABELS, OUTSIDE_CLASSES)
#: Problems that another label for the file does not solve.
NOT_ABOUT_LABEL = (TWO_SPLITS, TWO_GROUPS, GROUP_ACROSS_SPLITS)


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject files for which the source reports a problem, with the reason that it gives."""
    if not record.problem:
        return None
    reason, _, detail = record.problem.partition(": ")
    return Finding(reason, detail)


def is_about_label(problem: str) -> bool:
    """Return whether another label for the file solves the problem."""
    return problem.partition(": ")[0] in _ABOUT_LABEL


CHECK = Check(
    "source_problem",
    70,
    "header",
    judge,
    "correct the source (manifest, folders) or [data] in the configuration",
)
