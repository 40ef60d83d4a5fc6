"""Which split an image belongs to: by salted hash, so that adding files moves nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from imgpipe.models import feature_names as names


@dataclass(frozen=True)
class SplitRule:
    """Shares of the images; what is left is train."""

    seed: int = 0
    validation: float = 0.1
    test: float = 0.1
    given: tuple[str, ...] = ()  # splits that the source names itself

    def assign(self, image_hash: str, given: str | None, group: str | None = None) -> str:
        """The split of an image; a group stays together, and so do byte-identical images of none.

        A given split is kept. Where the source gives no validation, it is carved out of train;
        where it names its own splits, nothing is drawn for test.
        """
        what = image_hash if group is None else f"group:{group}"
        if self.given:
            place = given or names.TRAIN
            carve = place == names.TRAIN and names.VALIDATION not in self.given
            return names.VALIDATION if carve and self._draw(what) < self.validation else place
        draw = self._draw(what)
        if draw < self.validation:
            return names.VALIDATION
        return names.TEST if draw < self.validation + self.test else names.TRAIN

    def _draw(self, what: str) -> float:
        """Uniform in [0, 1), a function of the seed and of the content or the group alone."""
        digest = hashlib.sha256(f"{self.seed}:{what}".encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
