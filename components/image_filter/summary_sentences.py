"""What the summary of the images says in sentences, for terminal, verdict and pages."""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.common.formatting import plural
from imgpipe.components.image_filter.data_summary import DataSummary, Families
from imgpipe.components.image_filter.quarantine import NOT_RELABELLED
from imgpipe.serving.refused_image import PIXEL_LIMIT
from imgpipe.serving.server.settings import DEFAULT_MAX_MESSAGE_BYTES

#: With fewer families and single images, an accuracy on held-out images varies much by chance.
_FEW_FAMILIES = 20


def moves(moved: Mapping[str, int]) -> list[str]:
    """Describe the images that are in another split than the one drawn, one clause per reason.

    Args:
        moved: Number of images by reason, as the quarantine's summary counts them.
    """
    why = {
        "near_duplicates_together": "moved, so that near-duplicates and groups stay in one split",
        "class_minimum": "moved to another split, so that each class has enough images there",
    }
    return [
        f"{plural(number, 'image was', 'images were')} {why[reason]}"
        for reason, number in moved.items()
        if number and reason in why
    ]


def aside(counts: Mapping[str, int]) -> list[str]:
    """Describe the training images that are not trained on, one clause per held-out split.

    Args:
        counts: Number of training images by the split of the images that they are similar to.
    """
    return [
        f"{plural(number, 'image')} of train {'is' if number == 1 else 'are'} set aside, because "
        f"{'it is a near-duplicate' if number == 1 else 'they are near-duplicates'} of {split}"
        for split, number in counts.items()
        if number
    ]


def not_served(data: DataSummary) -> list[str]:
    """Say how many kept images a server does not take as they are; nothing if it takes all.

    Args:
        data: The summary of the images.
    """
    said = []
    kept = plural(data["kept"], "kept image")
    total = sum(data["transcoded"].values())
    if total:
        files = "is in a file" if total == 1 else "are in files"
        kinds = ", ".join(f"{number:,} {name}" for name, number in data["transcoded"].items())
        said.append(
            f"{total:,} of the {kept} {files} that the served model cannot decode ({kinds}); its "
            "clients must convert such files to PNG or JPEG, which predict --model and "
            "imgpipe.load do by themselves"
        )
    large = data["too_large"]
    if large:
        said.append(
            f"{large:,} of the {kept} {'has' if large == 1 else 'have'} more pixels or bytes than "
            f"servers and predict --model take ({PIXEL_LIMIT:,} pixels, "
            f"{DEFAULT_MAX_MESSAGE_BYTES >> 20} MiB); resize such images, also before they are sent"
        )
    return said


def overridden(data: DataSummary) -> str:
    """Count the overrides: `overrides were applied to 2 images (1 accept, 1 reject)`.

    Args:
        data: The summary of the images.

    Returns:
        Clauses without a full stop, also about labels of test that were not overridden; "" when
        there is nothing to say.
    """
    applied = dict(data["overrides"]["applied"])
    relabelled = data["overrides"]["relabelled"]
    kept_labels = applied.pop(NOT_RELABELLED, 0)
    clauses = []
    if applied:
        parts = [f"{number:,} {verdict}" for verdict, number in applied.items()]
        images = plural(sum(applied.values()), "image")
        clauses.append(f"overrides were applied to {images} ({', '.join(parts)})")
    if any(relabelled.values()):
        parts = [f"{number:,} of {split}" for split, number in relabelled.items() if number]
        labels = plural(sum(relabelled.values()), "label was", "labels were")
        clauses.append(f"{labels} overridden ({', '.join(parts)})")
    if kept_labels:
        images = plural(kept_labels, "test image was", "test images were")
        clauses.append(f"{images} not relabelled, because overrides change no label of test")
    return "; ".join(clauses)


def family_sentences(families: Families) -> list[str]:
    """Describe the images that belong together, in sentences without a full stop.

    Args:
        families: What the summary says about them.
    """
    if not families["families"]:
        return []
    shown = "; ".join(
        f"{family['name']}: {plural(family['images'], 'image')}"
        for family in families["examples"][:2]
    )
    source = "file names and capture times" if families["found"] else "the groups of the source"
    images = plural(families["images"], "image belongs", "images belong")
    said = [
        f"{images} to {plural(families['families'], 'family', 'families')} of images that show "
        f"the same thing, as {source} tell ({shown}); each family stays in one fold, and in one "
        "split where splits are drawn"
        + (". If that is wrong: --set split.groups=none" if families["found"] else "")
    ]
    divided = [
        f"{plural(number, 'image')} of {split}"
        for split, number in families["divided"].items()
        if number
    ]
    if divided:
        said.append(
            "the folders of the source divide families: train has images of the families of "
            f"{' and '.join(divided)}. The accuracy on these is too high; the report of a run "
            "gives that on unseen families beside it"
        )
    for split in ("validation", "test"):
        number = families["independent"][split]
        if 0 < number < _FEW_FAMILIES:
            what = plural(number, "family or single image", "families and single images")
            said.append(f"{split} has only {what}, so that its accuracy varies much by chance")
    return said
