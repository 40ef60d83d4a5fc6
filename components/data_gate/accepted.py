"""The data that was accepted last: its classes, recorded in a file beside the accepted schema.

Later data is judged by both. This module imports neither TensorFlow nor TFX, because the inputs of
a run are determined while these are still loading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from typing_extensions import TypedDict

from imgpipe.components.common.storage import manifest
from imgpipe.models.files import json_object

SCHEMA_FILE: Final = "schema.pbtxt"  # the name that TFX's components give it


class AcceptedState(TypedDict):
    """What earlier runs accepted, by which data is judged."""

    accepted_schema: Annotated[str, "The accepted schema as text; empty if there is none."]
    accepted_data: Annotated[str, "JSON of the data that was accepted last."]
    accept_changes: Annotated[int, "1 when a person accepts that the data differs, otherwise 0."]
    version: Annotated[int, "Number of the version with whose data it is compared; 0 for none."]
    digest: Annotated[str, "Digest of that version; empty for none."]


#: By which the first data of an output folder is judged.
_FIRST: Final[AcceptedState] = {
    "accepted_schema": "",
    "accepted_data": "{}",
    "accept_changes": 0,
    "version": 0,
    "digest": "",
}


def write(
    schema: Path,
    data_key: str,
    classes: Mapping[str, int],
    judged_by: AcceptedState,
    gate: str = "",
) -> None:
    """Record the data that a run accepted.

    Args:
        schema: Path of the accepted schema.
        data_key: Fingerprint of the data, its division into splits and its checks.
        classes: Number of kept images by class.
        judged_by: The parameters by which it was judged, as `parameters` returned them.
        gate: The settings by which it was judged, as text.
    """
    # The number makes the parameters of later data new ones. TFX would otherwise take DataGate from
    # the cache when the same change is made a second time, and nothing would be recorded.
    number = json.loads(judged_by["accepted_data"]).get("number", 0) + 1
    record = {
        "data_key": data_key,
        "schema_sha256": _digest(schema),
        "accepted_data": {"number": number, "classes": dict(classes)},
        "judged_by": dict(judged_by),
        "gate": gate,
    }
    json_object.write(_file(schema), record)


def parameters(
    schema: Path, data_key: str, gate: str = "", last: manifest.Version | None = None
) -> AcceptedState:
    """Return by what data is judged, for the settings of DataGate.

    The data that was accepted last is judged as it was then, so that it stays accepted and a
    repetition without changes is taken from the cache, unless the schema was edited since. It is
    compared with the same version, too: what the run then published changes nothing about the data.

    Args:
        schema: Path of the accepted schema, which need not exist.
        data_key: Fingerprint of the data, its division into splits and its checks.
        gate: The settings by which it is judged, as text.
        last: The last version; None if there is none.
    """
    first: AcceptedState = {
        **_FIRST,
        "version": last.number if last else 0,
        "digest": last.digest if last else "",
    }
    if not schema.is_file():
        return first
    record = json_object.read_or_empty(_file(schema))
    if (record.get("data_key"), record.get("schema_sha256")) == (data_key, _digest(schema)):
        judged_by: AcceptedState = record["judged_by"]
        if record["gate"] == gate and _remains(judged_by, last):
            return judged_by
        return {**judged_by, "version": first["version"], "digest": first["digest"]}
    text = schema.read_bytes().decode("utf-8", "replace")
    accepted_data = json.dumps(record.get("accepted_data", {}), sort_keys=True)
    return {**first, "accepted_schema": text, "accepted_data": accepted_data}


def _remains(judged_by: AcceptedState, last: manifest.Version | None) -> bool:
    """Whether the version with which accepted data was compared can be read again, if any."""
    if not judged_by["version"]:
        return True
    versions = manifest.readable(last.folder.parent) if last is not None else ()
    same = judged_by["version"], judged_by["digest"]
    return any((version.number, version.digest) == same for version in versions)


def classes(schema: Path) -> dict[str, int]:
    """Return the number of images by class of the data that was accepted last, {} if unknown."""
    return dict(
        json_object.read_or_empty(_file(schema)).get("accepted_data", {}).get("classes", {})
    )


def _file(schema: Path) -> Path:
    return schema.with_name("accepted.json")


def _digest(schema: Path) -> str:
    return hashlib.sha256(schema.read_bytes()).hexdigest()
