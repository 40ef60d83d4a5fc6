"""What changed between two sets of images, image by image: `12 have another label (12 cat → dog)`.

Images are the same by their content. Those of the data that was accepted last are in a file beside
the accepted schema. This module imports neither TensorFlow nor TFX.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from typing_extensions import TypedDict

from imgpipe.components.common.formatting import plural
from imgpipe.components.common.image_row import ImageRow
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.finding import Finding, make_finding

FILE: Final = "accepted_images.json"
_NAMED = 3  # pairs of labels that a sentence names
_REVIEWED = ("accept", "relabel")  # verdicts with which a person has confirmed a label


class Changes(TypedDict):
    """What changed between two sets of images."""

    relabelled: Annotated[
        dict[str, int], "Images with another label that no person has given, by “before → after”."
    ]
    decided: Annotated[int, "Images with another label that a person has given or accepted."]
    moved: Annotated[int, "Images in another split."]
    new: Annotated[int, "Images that were not there before."]
    gone: Annotated[int, "Images that are no longer there, or are rejected now."]


#: Label, split and verdict of each image, by content hash; a list once it was read from JSON.
KeptImages = Mapping[str, Sequence[str]]


def by_content(kept: Iterable[ImageRow]) -> KeptImages:
    """Return label, split and verdict of kept images by content hash."""
    return {row.image_hash: (row.label, row.split, row.verdict) for row in kept}


def compare(before: KeptImages, now: KeptImages) -> Changes:
    """Compare two sets of images."""
    both = before.keys() & now.keys()
    relabelled = [key for key in sorted(both) if now[key][0] != before[key][0]]
    silent = [key for key in relabelled if now[key][2] not in _REVIEWED]
    pairs = Counter(f"{before[key][0]} → {now[key][0]}" for key in silent)
    return {
        "relabelled": dict(pairs.most_common()),
        "decided": len(relabelled) - len(silent),
        "moved": sum(before[key][1] != now[key][1] for key in both),
        "new": len(now.keys() - both),
        "gone": len(before.keys() - both),
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


def since_accepted(schema: Path, now: KeptImages, accepts: bool = False) -> list[Finding]:
    """Say what changed since the data that was accepted last, in at most one finding.

    Labels that changed without a review decide, unless a person `accepts` that the images differ.
    `schema` is the path of the accepted schema.
    """
    before = json_object.read_or_empty(schema.with_name(FILE))
    changed = compare(before, now)
    if not before or not sentence(changed):
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


def write(schema: Path, images: KeptImages) -> None:
    """Record the images that a run accepted; `schema` is the path of the accepted schema."""
    atomic_write(schema.with_name(FILE), json.dumps(images, ensure_ascii=False))
