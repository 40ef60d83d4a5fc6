"""An image of which there are copies.

Copies show the same image, and there are three kinds: `identical` files have the same bytes,
`near_duplicates` have similar perceptual hashes, and `altered` ones were turned, tilted, shifted,
zoomed or framed. Altered copies are treated as near-duplicates are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Copy:
    """An image of which there are copies, with what decides about it."""

    path: str
    split: str
    label: str
    image_hash: str
    hashes: bytes = b""  # as `perceptual_hashes` returns them
    group: str = ""  # the family, or the group that the source gives; "" for none
    #: How this image or another one was altered, by content of the other; see `NearDuplicates`.
    altered: Mapping[str, str] = field(default_factory=dict)
