"""Selects the doubtful labels in the ranking, and names the file in which they are corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: File beside the page, in the format of judge.overrides.
REVIEW_FILE = "suspects.toml"
#: Margin from which a label is doubtful rather than merely hard to tell. The score of a class runs
#: from about 0 to 1, so the other class has to win by three tenths of the scale.
CLEAR = 0.3


def clear(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Select the rows of the ranking whose margin is at least `CLEAR`."""
    return [row for row in rows if (row.get("margin") or 0) >= CLEAR]
