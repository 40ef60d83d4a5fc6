"""Settings of FeatureBank."""

from __future__ import annotations

from dataclasses import dataclass

from imgpipe.components.common.component_settings import ComponentSettings

#: Value of `FeatureBankSettings.budget` for a share of the free disk space.
FREE_DISK = -1.0


@dataclass(frozen=True)
class FeatureBankSettings(ComponentSettings):
    """Settings of FeatureBank.

    Attributes:
        network: Description of the backbone, as `models.features.extractor.describe` returns it.
        weights_key: Fingerprint of weights and preprocessing: everything but the images that
            decides the features.
        store: Folder of the content-addressed store, as `BlobStore` takes it.
        budget: Bytes that the features of a run may take, or `FREE_DISK`.
        vocabulary: Class names in sorted order.
        head: JSON of the `ModelSettings` of a head that is solved, for which the features are
            chosen; "" when they are not.
    """

    network: str
    weights_key: str
    store: str
    budget: float
    vocabulary: tuple[str, ...]
    head: str = ""
