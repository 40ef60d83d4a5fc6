"""The summary of what ImageExampleGen has read, which lies beside its Examples."""

from __future__ import annotations

from typing import Annotated, Any, Final

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage.records import read_json
from imgpipe.models.finding import Finding

INGEST_SUMMARY: Final = "ingest.json"


class IngestSummary(TypedDict):
    """What was read of a source."""

    images: Annotated[int, "Number of files."]
    splits: Annotated[dict[str, int], "Number of files by split."]
    fingerprint: Annotated[str, "SHA-256 of the keys of all files."]
    notes: Annotated[list[Finding], "What the source did not read, by reason."]
    rule: Annotated[dict[str, Any], "The rule of the splits, as `SplitRule.from_json` reads it."]


def read_ingest_summary(examples_uri: str) -> IngestSummary | None:
    """Read the summary beside Examples; None if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    if not tf.io.gfile.exists(path):
        return None
    summary: IngestSummary = read_json(path)
    return summary
