"""Finds images that a model was trained on, among images that it is to be evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imgpipe.components.image_filter.checks.whole_set import RADIUS
from imgpipe.components.image_filter.near_search import near_groups
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models import progress

IDENTICAL, NEAR = "identical", "near_duplicate"


@dataclass(frozen=True)
class Seen:
    """An image that the run of a model had, or a near-duplicate of one.

    Attributes:
        kind: `IDENTICAL` or `NEAR`.
        split: Split of that run in which the image was.
    """

    kind: str
    split: str


@dataclass
class KnownImages:
    """Hashes of the images of a run, by content hash in hexadecimal digits.

    Attributes:
        splits: Split of each image.
        hashes: Perceptual hashes of each image, b"" for one that cannot be compared.
    """

    splits: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, examples_uri: str) -> KnownImages:
        """Read the hashes of the images that a run kept.

        Args:
            examples_uri: Folder of the Examples of ImageFilter.
        """
        found = cls()
        for split in names.SPLITS:
            for example in records.iterate(examples_uri, split):
                image_hash = records.text(example, names.IMAGE_HASH)
                found.splits[image_hash] = split
                found.hashes[image_hash] = records.raw(example, names.PERCEPTUAL_HASH)
                progress.advance(1, "images")
        return found

    def among(self, images: Mapping[str, bytes]) -> dict[str, Seen]:
        """Find the images that the run had too.

        Args:
            images: Perceptual hashes by content hash in hexadecimal digits.

        Returns:
            The images that are identical with one of the run or near-duplicates of one, by content
            hash. Where one is similar to images of several splits, train comes first.
        """
        found = {
            image_hash: Seen(IDENTICAL, self.splits[image_hash])
            for image_hash in images
            if image_hash in self.splits
        }
        # Identical images are known already, and would only add pairs to the search.
        together = self.hashes | {key: value for key, value in images.items() if key not in found}
        splits: dict[int, set[str]] = {}
        groups = near_groups(together, RADIUS)
        for image_hash, group in groups.items():
            if image_hash in self.splits:
                splits.setdefault(group, set()).add(self.splits[image_hash])
        for image_hash in images:
            near = splits.get(groups.get(image_hash, -1))
            if near and image_hash not in found:
                found[image_hash] = Seen(NEAR, min(near, key=names.SPLITS.index))
        return found
