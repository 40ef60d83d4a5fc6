"""Assigns images to splits by a salted hash, so that adding files does not move other images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from imgpipe.models import feature_names as names


@dataclass(frozen=True)
class SplitRule:
    """The rule by which images are assigned to splits.

    Attributes:
        seed: Salt of the hash.
        validation: Share of the images in validation, 0 to 1.
        test: Share of the images in test, 0 to 1. All other images are in train.
        given: Splits that the source itself names.
    """

    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    given: tuple[str, ...] = ()

    def assign(self, image_hash: str, given: str | None, group: str | None = None) -> str:
        """Assign an image to a split.

        A given split is kept. If the source names splits but no validation, a share of train is
        assigned to validation; none is assigned to test.

        Args:
            image_hash: Content hash of the image; identical files are in the same split.
            given: Split that the source gives the image, or None.
            group: Group of the image, whose images are all in the same split, or None.

        Returns:
            The name of the split.
        """
        key = image_hash if group is None else f"group:{group}"
        if self.given:
            split = given or names.TRAIN
            divided = split == names.TRAIN and names.VALIDATION not in self.given
            return names.VALIDATION if divided and self._draw(key) < self.validation else split
        draw = self._draw(key)
        if draw < self.validation:
            return names.VALIDATION
        return names.TEST if draw < self.validation + self.test else names.TRAIN

    def _draw(self, key: str) -> float:
        """A uniformly distributed number in [0, 1), which depends on the seed and the key alone."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
