"""Finds images of an evaluation that were in the data of the run that made the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgpipe.components.common.storage import known_images, records
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.output.model import Model


@dataclass(frozen=True)
class SeenImages:
    """What the run of the model, and the images of an evaluation, tell about each other.

    Attributes:
        near: Number of the group of near-duplicates, by content hash of the images that are in one.
        splits: The split in the run of each image that it had, by content hash; None if that is not
            known.
        with_near: Whether near-duplicates of images of the run are among them.
    """

    near: Mapping[str, int]
    splits: Mapping[str, str] | None
    with_near: bool = False

    @property
    def learned(self) -> set[str]:
        """Content hashes of the images that the run trained or decided with."""
        return {image for image, split in (self.splits or {}).items() if split != names.TEST}


def seen_images(model: Model, images: Mapping[str, bytes]) -> SeenImages:
    """Find the images of an evaluation that the run of a model had.

    The images of the run, as long as they exist, also show which images are near-duplicates. The
    list beside the model is kept as long as the model, and knows the same files alone.

    Args:
        model: The model.
        images: Perceptual hashes of the images by content hash; b"" for an image that cannot be
            compared.
    """
    from imgpipe.components.image_filter.copies.search import find_near_duplicates
    from imgpipe.components.image_filter.judge.checks.whole_set import RADIUS

    uri = model.training_images
    split_of: dict[str, str] = {}  # of the images of the run
    hashes: dict[str, bytes] = {}
    if uri is not None:
        for split in names.SPLITS:
            for example in records.iterate(uri, split):
                image_hash = records.text(example, names.IMAGE_HASH)
                split_of[image_hash] = split
                hashes[image_hash] = records.raw(example, names.PERCEPTUAL_HASH)
                progress.advance(1, "images")
    every_hash = {**images, **hashes}
    near = find_near_duplicates(every_hash.keys(), every_hash.values(), RADIUS).groups
    if uri is None:
        known = model.known_images
        if known is None:
            return SeenImages(near, None)
        listed = {key: known.get(known_images.short(key)) for key in images}
        return SeenImages(near, {key: split for key, split in listed.items() if split is not None})
    splits_of_groups: dict[int, set[str]] = {}
    for image_hash in split_of.keys() & near.keys():
        splits_of_groups.setdefault(near[image_hash], set()).add(split_of[image_hash])
    seen = {key: split_of[key] for key in images if key in split_of}
    for key in images.keys() & near.keys() - seen.keys():
        if near[key] in splits_of_groups:
            seen[key] = min(splits_of_groups[near[key]], key=names.SPLITS.index)
    return SeenImages(near, seen, with_near=True)
