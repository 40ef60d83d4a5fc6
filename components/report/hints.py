"""What a person should know about a verdict that stands: on the page, in the summary, on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.text import plural

#: Validation images below which one of them weighs half a point or more.
FEW = 200
#: Folds that the hint proposes: each trains on 80 % of the images.
FOLDS = 5


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """What a person should know about a verdict that stands, a sentence each."""
    return [*_few_images(facts), *_proposals(facts)]


def _proposals(facts: Mapping[str, Any]) -> list[str]:
    """Overrides that nobody confirmed."""
    number = (facts.get("settings") or {}).get("proposals") or 0
    if not number:
        return []
    return [
        f"judge.overrides holds {plural(number, 'proposal')} that nobody confirmed, and that "
        "changed nothing; look at each image and set confirmed = true where the proposal is right"
    ]


def _few_images(facts: Mapping[str, Any]) -> list[str]:
    """A validation split in which a single image weighs much."""
    gate = facts.get("gate") or {}
    count = gate.get("count") or 0
    if not 0 < count < FEW or (facts.get("settings") or {}).get("cross_validate"):
        return []
    if (facts.get("bank") or {}).get("dim") == 0:  # folds need a frozen backbone's features
        return []
    return [
        f"validation has {count} images, so that each of them is worth {100 / count:.1f} points; "
        f"evaluate.cross_validate = {FOLDS} judges on every image of train and validation instead, "
        "in some seconds"
    ]
