"""What changed between two sets of images, image by image: `12 have another label (12 cat → dog)`.

Images are the same by their content. This module imports neither TensorFlow nor TFX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from typing_extensions import TypedDict

from imgpipe.components.common.formatting import plural
from imgpipe.models.finding import Finding, make_finding

if TYPE_CHECKING:
    import pandas as pd

_NAMED: Final = 3  # pairs of labels that a sentence names
_REVIEWED: Final = ("accept", "relabel")  # verdicts with which a person has confirmed a label


class Changes(TypedDict):
    """What changed between two sets of images."""

    relabelled: Annotated[
        dict[str, int], "Images with another label that no person has given, by “before → after”."
    ]
    decided: Annotated[int, "Images with another label that a person has given or accepted."]
    moved: Annotated[int, "Images in another split."]
    new: Annotated[int, "Images that were not there before."]
    gone: Annotated[int, "Images that are no longer there, or are rejected now."]


def compare(before: pd.DataFrame, now: pd.DataFrame) -> Changes:
    """Compare two sets of kept images by their hashes, labels, splits and verdicts."""
    both = before.merge(now, on="image_hash", suffixes=("_before", ""))
    other = both[both["label_before"] != both["label"]]
    silent = other[~other["verdict"].isin(_REVIEWED)]
    pairs = (silent["label_before"] + " → " + silent["label"]).value_counts()
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "relabelled": {pair: int(count) for pair, count in ordered},
        "decided": len(other) - len(silent),
        "moved": int((both["split_before"] != both["split"]).sum()),
        "new": len(now) - len(both),
        "gone": len(before) - len(both),
    }


def sentence(changed: Changes) -> str:
    """Return the changes in words; "" if nothing changed."""
    parts = []
    images = sum(changed["relabelled"].values())
    if images:
        have = plural(images, "image has", "images have")
        parts.append(f"{have} another label ({_pairs(changed)})")
    if changed["decided"]:
        parts.append(f"{plural(changed['decided'], 'label')} changed by a person")
    if changed["new"]:
        parts.append(plural(changed["new"], "new image"))
    counts = {"gone": changed["gone"], "in another split": changed["moved"]}
    parts += [f"{count:,} {what}" for what, count in counts.items() if count]
    return ", ".join(parts)


def _pairs(changed: Changes) -> str:
    pairs = [f"{count:,} {pair}" for pair, count in changed["relabelled"].items()]
    return ", ".join([*pairs[:_NAMED], *(["…"] if len(pairs) > _NAMED else [])])


def since_accepted(before: pd.DataFrame, now: pd.DataFrame, accepts: bool = False) -> list[Finding]:
    """Say what changed since the data that was accepted last, in at most one finding.

    Labels that changed without a review decide, unless a person `accepts` that the images differ.
    `before` is as `accepted.images` returns it.
    """
    changed = compare(before, now)
    if not len(before) or not sentence(changed):
        return []
    silent = sum(changed["relabelled"].values())
    have = plural(silent, "image has", "images have")
    return [
        make_finding(
            "since_accepted",
            f"since the accepted data: {sentence(changed)}",
            ["look at them with imgpipe review, or accept them with --accept"] if silent else [],
            title=f"{have} another label than in the accepted data ({_pairs(changed)})",
            decides=silent > 0 and not accepts,
            count=silent,
        )
    ]
