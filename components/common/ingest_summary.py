"""The summary of what ImageExampleGen has read, which lies beside its Examples."""

from __future__ import annotations

from typing import Annotated, Any, Final

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage.records import read_json

INGEST_SUMMARY: Final = "ingest.json"


class SourceNote(TypedDict):
    """Something that a source found, and most often did not use."""

    kind: Annotated[str, "Kind of note."]
    path: Annotated[str, "Path of the file or folder."]
    detail: Annotated[str, "What was noticed; empty if the kind says all."]
    remedy: Annotated[str, "What to do; empty if nothing."]
    count: Annotated[int, "Number of files or folders; more in a note for all further ones."]


class IngestSummary(TypedDict):
    """What was read of a source."""

    images: Annotated[int, "Number of files."]
    splits: Annotated[dict[str, int], "Number of files by split."]
    fingerprint: Annotated[str, "SHA-256 of the keys of all files."]
    notes: Annotated[list[SourceNote], "Notes of the source."]
    rule: Annotated[dict[str, Any], "The rule of the splits, as `SplitRule.from_json` reads it."]


def read_ingest_summary(examples_uri: str) -> IngestSummary | None:
    """Read the summary beside Examples; None if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    if not tf.io.gfile.exists(path):
        return None
    summary: IngestSummary = read_json(path)
    return summary
