"""The section `[bank]` of the configuration, and what FeatureBank gets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.settings.section import OUTPUT, ComponentPlan, SettingsSection


class BankSettings(SettingsSection):
    """The feature bank: the frozen backbone's output, computed once for each image and view."""

    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Precision of the computation. auto: bfloat16 if the CPU supports it, "
        "otherwise float32.",
    )
    store: Annotated[str, OUTPUT] = Field(
        "", description="Folder of the features, which are kept across runs. Empty: <out>/bank."
    )
    budget: float | None = Field(
        None,
        ge=0,
        examples=[20],
        description="Maximum size in GiB of the features of a run. Above it, fewer augmented views "
        "are stored, and then only the features that cost least (see model.features); if not "
        "even these fit, layers are trained on images instead. Not set: a quarter of the free "
        "disk space.",
    )


class BankPlan(ComponentPlan):
    """What FeatureBank gets.

    Attributes:
        settings: Storage, with the absolute path of its folder.
        network: The settings that determine the features; see `settings_of_features`.
        weights_key: Fingerprint of weights and preprocessing: everything but the images, and the
            axes that are made of them, that decides the features.
        kept: Folder of what an output folder decides once; see `feature_bank.storage`.
        vocabulary: Class names in sorted order.
        head: Settings of the head that is solved, for which the features are chosen; None when
            they are not.
    """

    settings: BankSettings
    network: ModelSettings
    weights_key: str
    kept: str
    vocabulary: tuple[str, ...]
    head: ModelSettings | None = None
