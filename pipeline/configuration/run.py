"""The sections `[run]` and `[expect]` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgpipe.components.common.settings import LARGEST, SettingsSection
from imgpipe.models.names.model_names import SERVED_NAME
from imgpipe.models.settings.limits import OUTPUT


class RunSettings(SettingsSection):
    """Name of the pipeline, and folder of its results."""

    # The name is part of URLs, such as /v1/models/NAME:predict, in which these are plain.
    name: str = Field(
        SERVED_NAME,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="Name of the pipeline: at most 63 letters, digits, `_`, `.` and `-`, of which "
        "the first is a letter or digit.",
    )
    out: Annotated[str, OUTPUT] = Field(
        "imgpipe-out",
        min_length=1,
        description="Folder of artifacts, metadata, feature bank, published versions and reports.",
    )
    keep: int = Field(
        3,
        ge=0,
        le=LARGEST,
        description="Number of runs that keep their artifacts. When a run has ended, those of "
        "earlier runs are removed, except where the next run or a published version needs them; "
        "reports and summaries stay. 0: all are kept, until `imgpipe clean` removes them.",
    )


class ExpectSettings(SettingsSection):
    """The expected result, which is shown next to the actual one and decides nothing."""

    text: str = Field(
        "",
        description="The expected result in words, with its data, its source and the duration.",
    )
    low: float | None = Field(
        None, ge=0, le=1, examples=[0.9], description="Lower end of the expected accuracy."
    )
    high: float | None = Field(
        None, ge=0, le=1, examples=[0.98], description="Upper end of the expected accuracy."
    )
    split: Literal["validation", "test"] = Field(
        "validation",
        description="Split whose accuracy is compared; validation if the data has no test split.",
    )

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> ExpectSettings:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not be above high, received {self.low} and {self.high}")
        return self
