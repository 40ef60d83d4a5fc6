"""The section `[gate]` of the configuration, and what DataGate gets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imgpipe.components.data_gate.accepted import AcceptedState
from imgpipe.models.settings.section import LARGEST, ComponentPlan, SettingsSection

#: File with the decision of DataGate, in its artifact.
GATE_FILE = "gate.json"


class GateSettings(SettingsSection):
    """Requirements that the images must meet before training starts."""

    min_train: int = Field(
        4, ge=1, le=LARGEST, description="Minimum number of images of each class in train."
    )
    min_validation: int = Field(
        3,
        ge=1,
        le=LARGEST,
        description="Minimum number of images of each class in validation. Where the splits are "
        "drawn, a class with enough images gets as many, and at least 1 in test.",
    )
    allow_missing_classes: bool = Field(
        False,
        description="Whether classes of the vocabulary may have no image, as in sign language, "
        "where two of 26 letters have none.",
    )
    max_rejected_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Maximum share of rejected images; above it, the run stops.",
    )
    drift: Literal["reject", "warn", "ignore"] = Field(
        "reject",
        description="What happens when the data differs from that of the last blessed model: "
        "reject, warn or ignore. The limits are in the accepted schema, a text file.",
    )

    @property
    def levels(self) -> dict[str, str]:
        """What happens for each kind of difference.

        Splits that a source gives may differ on purpose, so that skew between them only warns.
        """
        return {"drift": self.drift, "skew": "warn"}


class GatePlan(ComponentPlan):
    """What DataGate gets.

    Attributes:
        settings: Requirements on the images.
        vocabulary: Class names in sorted order.
        judged_by: What earlier runs accepted, and the version with whose data these are compared.
            Where a person accepts that the data differs, the accepted schema is changed to allow
            the anomalies and the classes.
        accept_schema_to: Path of the accepted schema, which the first blessed run writes; each
            blessed run records its data beside it.
        data_key: Fingerprint of the data, its division into splits and its checks, for this record.
        decision_to: Path of a copy of the decision. TFX removes the outputs of a component that
            raised an error, and the report of a refused run needs them.
        versions: Base path of the published versions.
    """

    settings: GateSettings
    vocabulary: tuple[str, ...]
    judged_by: AcceptedState
    accept_schema_to: str
    data_key: str
    decision_to: str
    versions: str = ""
