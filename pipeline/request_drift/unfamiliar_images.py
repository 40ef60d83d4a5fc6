"""Computes the features of logged images with the served model and compares them with training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipe.models.export.signatures import FEATURE_VECTORS
from imgpipe.pipeline.request_drift.reference import Reference
from imgpipe.serving.served import Served

#: Standard deviations of the difference of two shares. By chance, a share is greater than another
#: one by more than three of them in 1 of 740 cases.
_SIGMAS = 3.0
#: Most images of a version whose features are computed. A forward pass takes some 15 ms on a CPU
#: core, and with so many images the share is known to half a percentage point.
_MOST = 2_000
_BATCH = 32  # images in one forward pass


@dataclass(frozen=True)
class Share:
    """A share of images or answers."""

    number: int  # of those with the property
    of: int  # of all that were examined

    @property
    def value(self) -> float:
        """The share, 0..1; 0 if nothing was examined."""
        return self.number / self.of if self.of else 0.0

    def words(self) -> str:
        """Text for people, such as "0.092 of 1,969"."""
        return f"{self.value:.3f} of {self.of:,}"

    def by_chance(self, reference: Share) -> float:
        """Return how much larger than the reference this share may be by chance, 0..1.

        The standard deviation is that of the reference's share, estimated with one more case on
        either side (Laplace's rule), because no case among few images does not mean that there are
        none.
        """
        usual = (reference.number + 1) / (reference.of + 2)
        return _SIGMAS * math.sqrt(usual * (1 - usual) * (1 / self.of + 1 / reference.of))


NONE_LOOKED_AT = Share(0, 0)


class Unfamiliar:
    """Counts the images whose features are unlike those of the training data.

    Args:
        reference: Reference of the served version. Nothing is counted when it has no distribution
            of the features.
        images: Number of images that will be counted at most; of more than `_MOST`, an evenly
            spread part is examined.

    Attributes:
        share: Share of the images that are unlike the training data.
        far: Share of the images that are far from the training data. Of images like the training
            data, a share of only 0.001 is that far (`feature_distribution.FAR_SHARE`).
    """

    def __init__(self, reference: Reference, images: int) -> None:
        self._images = images
        self._seen = 0
        self._features = reference.features
        self._served: Served | None = None
        if reference.features is not None:
            self._served = Served(str(reference.version.path), FEATURE_VECTORS)
        self.share = NONE_LOOKED_AT
        self.far = NONE_LOOKED_AT

    def count(self, images: Sequence[bytes]) -> None:
        """Examine those of the next encoded images that are chosen."""
        if self._features is None or self._served is None:
            return
        chosen = [image for n, image in enumerate(images, self._seen) if self._is_chosen(n)]
        self._seen += len(images)
        for start in range(0, len(chosen), _BATCH):
            batch = chosen[start : start + _BATCH]
            features = self._served.run(image_bytes=batch)[FEATURE_VECTORS]
            scores = self._features.scores(features)
            examined = self.share.of + len(batch)
            unlike = int((scores > self._features.threshold).sum())
            far = int((scores > self._features.far).sum())
            self.share = Share(self.share.number + unlike, examined)
            self.far = Share(self.far.number + far, examined)

    def _is_chosen(self, number: int) -> bool:
        """Whether an image is examined; the chosen ones are spread evenly over all of them."""
        chosen_before = number * _MOST // self._images
        chosen_with_it = (number + 1) * _MOST // self._images
        return chosen_before < chosen_with_it

    def __enter__(self) -> Unfamiliar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._served is not None:
            self._served.close()
