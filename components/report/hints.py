"""Warnings about the limits of a verdict, and whether more training images would help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.text import plural
from imgpipe.models.features.folds import FEW_IMAGES, FOLDS

_WORTHWHILE = 0.5  # points of accuracy for twice the images
_SHOWN = 0.05  # points; less is shown as 0.0


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """Return warnings about the limits of a verdict, one sentence each."""
    return [*_few_images(facts), *_unlearned(facts), *_proposals(facts), *_bank(facts)]


def _unlearned(facts: Mapping[str, Any]) -> list[str]:
    """Warn of classes whose images are all in one fold, where none of them can be right."""
    classes = (facts.get("settings") or {}).get("vocabulary") or []
    return [
        f"no fold could learn {classes[label]}, because all of its images are in one fold, as "
        f"the images of one group always are: {plural(count, 'image')} of it counted as wrong; "
        "add images of it in other groups, or let the validation split decide with "
        "evaluate.cross_validate = 0"
        for label, count in (facts.get("cross_validation") or {}).get("unlearned") or []
    ]


def _bank(facts: Mapping[str, Any]) -> list[str]:
    """Warn of a bank that holds less than was asked for."""
    note = str((facts.get("bank") or {}).get("note") or "")
    return [note] if "bank.budget" in note else []


def _proposals(facts: Mapping[str, Any]) -> list[str]:
    """Warn of overrides that nobody confirmed."""
    number = (facts.get("settings") or {}).get("proposals") or 0
    if not number:
        return []
    return [
        f"judge.overrides holds {plural(number, 'unconfirmed proposal')}, which changed nothing; "
        "look at each image and set confirmed = true where the proposal is right"
    ]


def _few_images(facts: Mapping[str, Any]) -> list[str]:
    """Warn of a small validation split."""
    gate = facts.get("gate") or {}
    count = gate.get("count") or 0
    if not 0 < count < FEW_IMAGES or facts.get("cross_validation"):
        return []
    text = (
        f"the validation split has only {count} images, so each of them changes the accuracy by "
        f"{100 / count:.1f} percentage points; "
    )
    tuned = ((facts.get("training") or {}).get("fine_tune") or {}).get("shipped")
    # Folds evaluate heads on features, and need enough independent images.
    without_folds = tuned or facts.get("folds_note")
    if without_folds or (facts.get("bank") or {}).get("dim") == 0:
        return [text + "add images, or give more of them to validation with split.validation"]
    return [
        text + f"evaluate.cross_validate = {FOLDS} evaluates on all images of train and validation "
        "instead, which takes a few seconds"
    ]


def would_more_help(solution: Mapping[str, Any]) -> str:
    """Say what the last doubling of the number of training images gained.

    Args:
        solution: How the head was found, with the points ``{"images", "accuracy"}`` of its
            `learning_curve`, and `gain_error`, the standard error of the last gain.

    Returns:
        A sentence; "" when the curve has fewer than two points.
    """
    curve = solution.get("learning_curve") or []
    if len(curve) < 2:
        return ""
    before, after = curve[-2:]
    gained = 100 * (after["accuracy"] - before["accuracy"])
    seen = f"From {before['images']} to {after['images']} training images, accuracy "
    error = 100 * solution.get("gain_error", math.inf)  # other tools may not know it
    if _WORTHWHILE <= abs(gained) < error:
        verb = "rose" if gained > 0 else "fell"
        return f"{seen}{verb} by {abs(gained):.1f} points, which may be chance."
    if gained >= _WORTHWHILE:
        return f"{seen}rose by {gained:.1f} points, so that more images would probably help."
    change = f"fell by {-gained:.1f} points" if gained < 0 else f"rose by only {gained:.1f} points"
    if abs(gained) < _SHOWN:
        change = "did not change"
    return f"{seen}{change}, so that more such images would help little."
