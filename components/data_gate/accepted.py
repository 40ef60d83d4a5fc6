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

from imgpipe.models.files import json_object
from imgpipe.models.settings.given import Facts


class AcceptedState(TypedDict):
    """What earlier runs accepted, by which data is judged."""

    accepted_schema: Annotated[str, "The accepted schema as text; empty if there is none."]
    accepted_data: Annotated[str, "JSON of the data that was accepted last."]
    accept_changes: Annotated[int, "1 when a person accepts that the data differs, otherwise 0."]


#: By which the first data of an output folder is judged.
_FIRST: Final[AcceptedState] = {"accepted_schema": "", "accepted_data": "{}", "accept_changes": 0}


def write(schema: Path, classes: Mapping[str, int], facts: Facts) -> None:
    """Record the data that a run accepted.

    Args:
        schema: Path of the accepted schema.
        classes: Number of kept images by class.
        facts: The data, and by what it was judged, as `parameters` returned it.
    """
    # The number makes the parameters of later data new ones. TFX would otherwise take DataGate from
    # the cache when the same change is made a second time, and nothing would be recorded.
    number = json.loads(facts.accepted_data).get("number", 0) + 1
    judged_by: AcceptedState = {
        "accepted_schema": facts.accepted_schema,
        "accepted_data": facts.accepted_data,
        "accept_changes": facts.accept_changes,
    }
    record = {
        "data_key": facts.data_key,
        "schema_sha256": _digest(schema),
        "accepted_data": {"number": number, "classes": dict(classes)},
        "judged_by": judged_by,
    }
    json_object.write(_file(schema), record)


def parameters(schema: Path, data_key: str) -> AcceptedState:
    """Return by what data is judged, for the facts of DataGate.

    The data that was accepted last is judged as it was then, so that it stays accepted and a
    repetition without changes is taken from the cache, unless the schema was edited since.

    Args:
        schema: Path of the accepted schema, which need not exist.
        data_key: Fingerprint of the data, its division into splits and its checks.
    """
    if not schema.is_file():
        return _FIRST.copy()
    record = json_object.read_or_empty(_file(schema))
    if (record.get("data_key"), record.get("schema_sha256")) == (data_key, _digest(schema)):
        state: AcceptedState = record["judged_by"]
        return state
    text = schema.read_bytes().decode("utf-8", "replace")
    last = json.dumps(record.get("accepted_data", {}), sort_keys=True)
    return {**_FIRST, "accepted_schema": text, "accepted_data": last}


def classes(schema: Path) -> dict[str, int]:
    """Return the number of images by class of the data that was accepted last, {} if unknown."""
    return dict(
        json_object.read_or_empty(_file(schema)).get("accepted_data", {}).get("classes", {})
    )


def _file(schema: Path) -> Path:
    return schema.with_name("accepted.json")


def _digest(schema: Path) -> str:
    return hashlib.sha256(schema.read_bytes()).hexdigest()
