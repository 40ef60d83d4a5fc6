"""Sentences about the images that belong together, for ``imgpipe check`` and the report."""

from __future__ import annotations

from imgpipe.components.image_filter.quarantine import Families
from imgpipe.components.report.text import plural

#: With fewer families and single images, an accuracy on held-out images varies much by chance.
_FEW_FAMILIES = 20


def sentences(found: Families) -> list[str]:
    """Describe the images that belong together, in sentences without a full stop.

    Args:
        found: What is known of them, from the quarantine's summary.
    """
    if not found["families"]:
        return []
    shown = "; ".join(
        f"{family['name']}: {plural(family['images'], 'image')}" for family in found["examples"][:2]
    )
    source = "file names and capture times" if found["found"] else "the groups of the source"
    images = plural(found["images"], "image belongs", "images belong")
    said = [
        f"{images} to {plural(found['families'], 'family', 'families')} of images that show the "
        f"same thing, as {source} tell ({shown}); each family stays in one fold, and in one split "
        "where splits are drawn"
        + (". If that is wrong: --set data.groups=none" if found["found"] else "")
    ]
    divided = [
        f"{plural(number, 'image')} of {split}"
        for split, number in found["divided"].items()
        if number
    ]
    if divided:
        said.append(
            "the folders of the source divide families: train has images of the families of "
            f"{' and '.join(divided)}. The accuracy on these is too high; the report of a run "
            "gives that on unseen families beside it"
        )
    for split in ("validation", "test"):
        number = found["independent"][split]
        if 0 < number < _FEW_FAMILIES:
            what = plural(number, "family or single image", "families and single images")
            said.append(f"{split} has only {what}, so that its accuracy varies much by chance")
    return said
