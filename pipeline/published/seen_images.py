"""Finds images of an evaluation that were in the data of the run that made the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgpipe.components.common.storage import known_images, records
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.published.model import Model


@dataclass(frozen=True)
class SeenImages:
    """The images of an evaluation that the run of the model had.

    Attributes:
        splits: The split of each such image in the run, by content hash.
        with_near: Whether near-duplicates of images of the run are among them.
    """

    splits: Mapping[str, str]
    with_near: bool


def seen_images(model: Model, images: Mapping[str, bytes]) -> SeenImages | None:
    """Find the images of an evaluation that the run of a model had.

    The images of the run, as long as they exist, also show which images are near-duplicates. The
    list beside the model is kept as long as the model, and knows the same files alone.

    Args:
        model: The model.
        images: Perceptual hashes of the images by content hash; b"" for an image that cannot be
            compared.

    Returns:
        The images that the run had; None if that is not known.
    """
    uri = model.training_images
    if uri is not None:
        return SeenImages(_splits_with_near(uri, images), with_near=True)
    splits_by_hash = model.known_images
    if splits_by_hash is None:
        return None
    listed = {key: splits_by_hash.get(known_images.short(key)) for key in images}
    splits = {key: split for key, split in listed.items() if split is not None}
    return SeenImages(splits, with_near=False)


def _splits_with_near(uri: str, images: Mapping[str, bytes]) -> dict[str, str]:
    """Return the split of each image that a run had, or near-duplicates of which it had."""
    from imgpipe.components.image_filter.copies.search import find_near_duplicates
    from imgpipe.components.image_filter.judge.checks.whole_set import RADIUS

    kept: dict[str, str] = {}
    hashes: dict[str, bytes] = {}
    for split in names.SPLITS:
        for example in records.iterate(uri, split):
            image_hash = records.text(example, names.IMAGE_HASH)
            kept[image_hash] = split
            hashes[image_hash] = records.raw(example, names.PERCEPTUAL_HASH)
            progress.advance(1, "images")
    groups = find_near_duplicates({**images, **hashes}, RADIUS).groups
    splits_of_groups: dict[int, set[str]] = {}
    for image_hash, split in kept.items():
        if image_hash in groups:
            splits_of_groups.setdefault(groups[image_hash], set()).add(split)
    splits = {}
    for image_hash in images:
        if image_hash in kept:
            splits[image_hash] = kept[image_hash]
        elif image_hash in groups and groups[image_hash] in splits_of_groups:
            near = splits_of_groups[groups[image_hash]]
            splits[image_hash] = min(near, key=names.SPLITS.index)
    return splits
