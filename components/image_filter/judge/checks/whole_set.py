"""Checks of an image among all images of the set: its size, and near-duplicates.

`imgpipe.components.image_filter.comparison` compares the images with each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from imgpipe.components.common.image_row import ImageFinding, ImageRow, Severity
from imgpipe.components.image_filter.judge.check import (
    WARN,
    CheckResult,
    ImageCheck,
    Limits,
    check,
    usual_remedy,
)

NEAR_DUPLICATE = "near_duplicate"
NEAR_DUPLICATE_ACROSS_SPLITS = "near_duplicate_across_splits"
NEAR_DUPLICATE_LABEL_CONFLICT = "near_duplicate_label_conflict"
#: Default radius in bits. Copies that were saved again, resized, brightened or cropped by 5 % are
#: within it. So are different images before the same background; the grey images refuse these.
RADIUS = 40

_JOIN_SPLITS = "put both copies into one split (data.group_pattern keeps copies together)"
#: What to do about a near-duplicate, by the reason and what happens to the image.
NEAR_REMEDIES: Mapping[tuple[str, Severity], str] = {
    (NEAR_DUPLICATE_ACROSS_SPLITS, "reject"): (
        f"{_JOIN_SPLITS}, or set judge.severity.{NEAR_DUPLICATE_ACROSS_SPLITS} to "
        '"warn" and evaluate on training images'
    ),
    (NEAR_DUPLICATE_ACROSS_SPLITS, "warn"): _JOIN_SPLITS,
    (NEAR_DUPLICATE_LABEL_CONFLICT, "warn"): (
        "give both copies the right label, or delete the wrong one, and run again"
    ),
    (NEAR_DUPLICATE, "reject"): (
        f'set judge.severity.{NEAR_DUPLICATE} to "warn", or delete the copy that you do not need'
    ),
    (NEAR_DUPLICATE, "warn"): usual_remedy(NEAR_DUPLICATE),
}
NEAR_DUPLICATE_CHECK = ImageCheck(
    NEAR_DUPLICATE,
    "set",
    None,
    NEAR_REMEDIES[NEAR_DUPLICATE, "warn"],
    severity="warn",
    may_be=WARN,
    finds="Nearly the same image in the same split",
    threshold=RADIUS,
    about="bits of 256 in which near-duplicates may differ; 0: do not search",
    titles={
        NEAR_DUPLICATE: "near-duplicate",
        NEAR_DUPLICATE_LABEL_CONFLICT: "near-duplicate with another label",
    },
)
ACROSS_SPLITS_CHECK = ImageCheck(
    NEAR_DUPLICATE_ACROSS_SPLITS,
    "set",
    None,
    NEAR_REMEDIES[NEAR_DUPLICATE_ACROSS_SPLITS, "reject"],
    may_be=WARN,
    finds="Nearly the same image in another split",
    titles={NEAR_DUPLICATE_ACROSS_SPLITS: "near-duplicate in another split"},
)


def size(width: int, height: int) -> float:
    """Return the side of the square with the same number of pixels."""
    return math.sqrt(width) * math.sqrt(height)


def _usual_sizes(rows: Sequence[ImageRow], factor: float) -> Limits:
    """Return the least and the greatest usual `size`: `factor` ranges beyond the quartiles."""
    if not rows:
        return None
    q1, q3 = np.percentile(np.sqrt([row.pixels for row in rows]), (25, 75)).tolist()
    return q1 - factor * (q3 - q1), q3 + factor * (q3 - q1)


@check(
    "set",
    severity="warn",
    threshold=3.0,
    about="interquartile ranges below or above the quartiles of the sizes",
    limits=_usual_sizes,
    titles={"odd_size": "unusual size"},
)
def odd_size(row: ImageRow, usual: Limits) -> CheckResult:
    """Much smaller or larger than the rest of the set."""
    if usual is None:
        return None
    least, greatest = usual
    side = size(row.width, row.height)
    tolerance = 1e-9 * greatest  # absorbs rounding errors in the limits when all sizes are equal
    if least - tolerance <= side <= greatest + tolerance:
        return None
    low = f"{max(least, 0):.0f}"
    high = f"{greatest:.0f}"
    usually = f"about {low} x {low} to {high} x {high} is usual"
    if low == high:
        usually = f"about {low} x {low} is usual"
    elif low == "0":
        usually = f"up to about {high} x {high} is usual"
    detail = f"{row.width} x {row.height} pixels, where {usually}"
    middle = (least + greatest) / 2
    return ImageFinding("odd_size", detail, score=-abs(side - middle))
