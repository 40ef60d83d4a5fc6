"""Settings of DataGate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.components.common.component_settings import ComponentSettings

#: File with the decision of DataGate, in its artifact.
GATE_FILE = "gate.json"


@dataclass(frozen=True)
class DataGateSettings(ComponentSettings):
    """Settings of DataGate.

    Attributes:
        vocabulary: Class names in sorted order.
        section: The section `[gate]` of the configuration.
        accept_changes: 1 when a person accepts how this data differs from earlier data, otherwise
            0. The accepted schema is then changed to allow the anomalies and the classes.
        accepted_schema: The accepted schema as text, "" if the schema was inferred from this data.
        accepted_data: JSON of the data that was accepted last; see `accepted.write`.
        accept_schema_to: Path of the accepted schema, which the first blessed run writes; each
            blessed run records its data beside it. "" writes nothing.
        data_key: Fingerprint of the data, its division into splits and its checks, for this record.
        decision_to: Path of a copy of the decision, "" for none. TFX removes the outputs of a
            component that raised an error, and the report of a refused run needs them.
    """

    vocabulary: tuple[str, ...]
    section: Mapping[str, Any]
    accept_changes: int = 0
    accepted_schema: str = ""
    accepted_data: str = "{}"
    accept_schema_to: str = ""
    data_key: str = ""
    decision_to: str = ""
