"""The data that was accepted last: its images, recorded in a file beside the accepted schema.

Later data is judged by both. This module imports neither TensorFlow nor TFX, because the inputs of
a run are determined while these are still loading.
"""

from __future__ import annotations

import collections
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from typing_extensions import TypedDict

from imgpipe.components.common.storage import manifest
from imgpipe.models.files import json_object
from imgpipe.models.settings.data import GateSettings
from imgpipe.models.settings.given import Given

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the images that are recorded.
_COLUMNS: Final = ("image_hash", "label", "split", "verdict")


class AcceptedState(TypedDict):
    """What earlier runs accepted, by which data is judged."""

    accepted_schema: Annotated[str, "The accepted schema as text; empty if there is none."]
    accepted_data: Annotated[str, "JSON of the data that was accepted last."]
    accept_changes: Annotated[int, "1 when a person accepts that the data differs, otherwise 0."]
    data_version: Annotated[
        int, "Number of the version with whose data it is compared; 0 for none."
    ]
    data_digest: Annotated[str, "Digest of that version; empty for none."]


#: By which the first data of an output folder is judged.
_FIRST: Final[AcceptedState] = {
    "accepted_schema": "",
    "accepted_data": "{}",
    "accept_changes": 0,
    "data_version": 0,
    "data_digest": "",
}


def write(schema: Path, images: pd.DataFrame, given: Given) -> None:
    """Record the data that a run accepted.

    Args:
        schema: Path of the accepted schema.
        images: The table of the kept images.
        given: The data, and by what it was judged, also as `parameters` returned it.
    """
    # The number makes the parameters of later data new ones. TFX would otherwise take DataGate from
    # the cache when the same change is made a second time, and nothing would be recorded.
    facts = given.facts
    record = {
        "number": json.loads(facts.accepted_data).get("number", 0) + 1,
        "images": {name: images[name].tolist() for name in _COLUMNS},
        "data_key": facts.data_key,
        "schema_sha256": _digest(schema),
        "judged_by": {name: getattr(facts, name) for name in AcceptedState.__annotations__},
        "gate": given.settings.gate.model_dump_json(),
    }
    json_object.write(_file(schema), record)


def parameters(
    schema: Path, data_key: str, gate: GateSettings, last: manifest.Version | None = None
) -> AcceptedState:
    """Return by what data is judged, for the facts of DataGate.

    The data that was accepted last is judged as it was then, so that it stays accepted and a
    repetition without changes is taken from the cache, unless the schema was edited since. It is
    compared with the same version, too: what the run then published changes nothing about the data.

    Args:
        schema: Path of the accepted schema, which need not exist.
        data_key: Fingerprint of the data, its division into splits and its checks.
        gate: The settings by which it is judged.
        last: The last version; None if there is none.
    """
    first: AcceptedState = {
        **_FIRST,
        "data_version": last.number if last else 0,
        "data_digest": last.digest if last else "",
    }
    if not schema.is_file():
        return first
    record = json_object.read_or_empty(_file(schema))
    if (record.get("data_key"), record.get("schema_sha256")) == (data_key, _digest(schema)):
        state: AcceptedState = record["judged_by"]
        if record["gate"] == gate.model_dump_json() and _remains(state, last):
            return state
        return {
            **state,
            "data_version": first["data_version"],
            "data_digest": first["data_digest"],
        }
    text = schema.read_bytes().decode("utf-8", "replace")
    accepted_data = {"number": record["number"], "classes": classes(schema)} if record else {}
    return {**first, "accepted_schema": text, "accepted_data": json.dumps(accepted_data)}


def _remains(judged_by: AcceptedState, last: manifest.Version | None) -> bool:
    """Whether the version with which accepted data was compared can be read again, if any."""
    if not judged_by["data_version"]:
        return True
    versions = manifest.readable(last.folder.parent) if last is not None else ()
    same = judged_by["data_version"], judged_by["data_digest"]
    return any((version.number, version.digest) == same for version in versions)


def images(schema: Path) -> pd.DataFrame:
    """Return hash, label, split and verdict of the images that were accepted last, if any."""
    import pandas as pd

    columns = json_object.read_or_empty(_file(schema)).get("images", {})
    return pd.DataFrame({name: columns.get(name, []) for name in _COLUMNS}, dtype=object)


def classes(schema: Path) -> dict[str, int]:
    """Return the number of images by class of the data that was accepted last, {} if unknown."""
    labels = json_object.read_or_empty(_file(schema)).get("images", {}).get("label", [])
    return dict(sorted(collections.Counter(labels).items()))


def _file(schema: Path) -> Path:
    return schema.with_name("accepted.json")


def _digest(schema: Path) -> str:
    return hashlib.sha256(schema.read_bytes()).hexdigest()
