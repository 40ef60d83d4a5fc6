"""Finds images that a model was trained on, among images that it is to be evaluated on."""

from __future__ import annotations

from collections.abc import Mapping

from imgpipe.components.image_filter.checks.whole_set import RADIUS
from imgpipe.components.image_filter.near_search import near_groups
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models import progress


def seen_images(examples_uri: str, images: Mapping[str, bytes]) -> dict[str, str]:
    """Find the images that a run had, or near-duplicates of which it had.

    Args:
        examples_uri: Folder of the Examples of ImageFilter of the run.
        images: Perceptual hashes (b"" for an image that cannot be compared) by content hash in
            hexadecimal digits.

    Returns:
        The split of the run by content hash. Where an image is similar to images of several splits,
        train comes first.
    """
    kept: dict[str, str] = {}
    hashes: dict[str, bytes] = {}
    for split in names.SPLITS:
        for example in records.iterate(examples_uri, split):
            image_hash = records.text(example, names.IMAGE_HASH)
            kept[image_hash] = split
            hashes[image_hash] = records.raw(example, names.PERCEPTUAL_HASH)
            progress.advance(1, "images")
    found = {image_hash: kept[image_hash] for image_hash in images if image_hash in kept}
    # Identical images are known already, and would only add pairs to the search.
    groups = near_groups(hashes | {k: v for k, v in images.items() if k not in found}, RADIUS)
    splits: dict[int, set[str]] = {}
    for image_hash, group in groups.items():
        if image_hash in kept:
            splits.setdefault(group, set()).add(kept[image_hash])
    for image_hash in images:
        near = splits.get(groups.get(image_hash, -1))
        if near and image_hash not in found:
            found[image_hash] = min(near, key=names.SPLITS.index)
    return found
