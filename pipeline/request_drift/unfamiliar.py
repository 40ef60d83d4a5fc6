"""Logged images put to the served model again, for their features."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from imgpipe.models.feature_distribution import FeatureDistribution
from imgpipe.models.served_model import Served
from imgpipe.models.signatures import FEATURE_VECTORS
from imgpipe.pipeline.request_drift.reference import Blessed
from imgpipe.pipeline.request_drift.share import Share

#: Images of a version that are put to it; a forward pass takes some 15 ms on a CPU core, and the
#: share of so many is known to half a point.
_MOST = 2_000
_TOGETHER = 32


class Unfamiliar:
    """Counts the images whose features are unlike those of the training data.

    Args:
        features: Distribution of the training data; None counts nothing.
        directory: The SavedModel.
    """

    def __init__(self, features: FeatureDistribution | None, directory: str) -> None:
        self._features = features
        self._served = Served(directory, FEATURE_VECTORS) if features is not None else None
        self.share = Share(0, 0)

    @classmethod
    def of(cls, blessed: Blessed) -> Unfamiliar:
        """For one version."""
        return cls(blessed.features, str(blessed.version.path))

    def look_at(self, images: Sequence[bytes]) -> None:
        """Count encoded images, up to a number that is enough."""
        if self._features is None or self._served is None:
            return
        for start in range(0, min(len(images), _MOST - self.share.of), _TOGETHER):
            batch = list(images[start : start + _TOGETHER])
            found = self._served.run(image_bytes=batch)[FEATURE_VECTORS]
            above = self.share.number + self._features.above(found)
            self.share = Share(above, self.share.of + len(batch))

    def __enter__(self) -> Unfamiliar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._served is not None:
            self._served.close()
