"""Whoever changes what a run stores raises the number of the layout."""

import hashlib
import json

from pydantic import TypeAdapter

from imgpipe.components.common import images
from imgpipe.components.common.image_row import IngestSummary
from imgpipe.components.common.storage.manifest import LAYOUT
from imgpipe.components.run_record.result import Result
from imgpipe.models.features.bank import BankFacts

#: Digest of the stored formats by the number of the layout.
DIGESTS = {12: "989590c301999701"}


def _plain(schema: object) -> object:
    """Return a JSON schema without its words."""
    if isinstance(schema, dict):
        return {name: _plain(value) for name, value in schema.items() if name != "description"}
    return [*map(_plain, schema)] if isinstance(schema, list) else schema


def test_a_stored_format_that_changes_raises_the_number_of_the_layout() -> None:
    formats = [
        _plain(TypeAdapter(kind).json_schema()) for kind in (Result, BankFacts, IngestSummary)
    ]
    content = json.dumps([*formats, str(images._schema())], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    assert DIGESTS.get(LAYOUT) == digest, (
        "a stored format has changed: raise LAYOUT in components/common/storage/manifest.py, and "
        f"write {digest} here for the new number"
    )
