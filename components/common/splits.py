"""Assigns images to splits by a salted hash, so that adding files does not move other images.

ImageFilter may move an image afterwards, when all images are known: near-duplicates are placed in
one split, and each class gets its minimum of images (`image_filter.placement`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.models import feature_names as names

#: Where several splits claim an image or a group, it stays in the first of these, so that no model
#: is evaluated on an image that it was trained on.
HELD_OUT_FIRST = (names.TEST, names.VALIDATION, names.TRAIN)


@dataclass(frozen=True)
class SplitRule:
    """The rule by which images are assigned to splits.

    Attributes:
        seed: Salt of the hash.
        validation: Share of the images in validation, 0 to 1.
        test: Share of the images in test, 0 to 1. All other images are in train.
        given: Splits that the source itself names.
        min_validation: Number of images of each class that validation gets if the class has enough.
        min_test: Number of images of each class that test gets if the class has enough.
    """

    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    given: tuple[str, ...] = ()
    min_validation: int = 0
    min_test: int = 0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SplitRule:
        """Create a rule from the dictionary of its attributes, as JSON holds it."""
        return cls(**{**values, "given": tuple(values["given"])})

    @property
    def drawn(self) -> tuple[str, ...]:
        """The splits between which this rule decides; the source decides about all others."""
        if not self.given:
            return names.SPLITS
        # A source that names splits has decided about test, even if it names no test split.
        return () if names.VALIDATION in self.given else (names.TRAIN, names.VALIDATION)

    @property
    def minimum(self) -> dict[str, int]:
        """Number of images that each class should have, by split that is drawn and has a share."""
        wanted = {
            names.VALIDATION: (self.validation, self.min_validation),
            names.TEST: (self.test, self.min_test),
        }
        return {
            split: least
            for split, (share, least) in wanted.items()
            if split in self.drawn and share > 0 and least > 0
        }

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

        Examples:
            >>> rule = SplitRule(validation=0.25, test=0.1)
            >>> rule.assign("5e1f", None)
            'train'
            >>> {rule.assign(image, None, group="patient 7") for image in ("5e1f", "a07c")}
            {'train'}
            >>> SplitRule(given=("train", "test")).assign("5e1f", "test")
            'test'
        """
        key = self.key(image_hash, group)
        if self.given:
            split = given or names.TRAIN
            divided = split == names.TRAIN and names.VALIDATION not in self.given
            return names.VALIDATION if divided and self.draw(key) < self.validation else split
        draw = self.draw(key)
        if draw < self.validation:
            return names.VALIDATION
        return names.TEST if draw < self.validation + self.test else names.TRAIN

    @staticmethod
    def key(image_hash: str, group: str | None = None) -> str:
        """Return the key by which an image is drawn: that of its group, or of its content."""
        return f"group:{group}" if group else image_hash

    def draw(self, key: str) -> float:
        """Return a uniformly distributed number in [0, 1) that only seed and key determine."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
