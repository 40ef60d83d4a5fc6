"""The files that the first pass of the engine writes for a shard, for the comparison and after."""

from __future__ import annotations

import collections
import dataclasses
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.image_filter import placement
from imgpipe.components.image_filter.decision import Decision
from imgpipe.components.splits import SplitRule
from imgpipe.components.storage.records import write_bytes

HASH_BYTES = 32  # length of a SHA-256


@dataclass(frozen=True)
class Table:
    """What the comparison needs to know about every image of a shard that passed the checks.

    Attributes:
        contents: The content hashes, one after the other.
        places: Rows for `placement.place`.
        counts: For each check that needs the set: how many images have each number that the check
            counts.
    """

    contents: bytes = b""
    places: bytes = b""
    counts: dict[str, collections.Counter[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The three files that the first pass writes for a shard; a second attempt writes the same.

    Attributes:
        prefix: Path or URI of the files, without their suffix.
    """

    prefix: str

    def write(
        self,
        decisions: Sequence[Decision],
        counts: dict[str, collections.Counter[int]] | None = None,
        rule: SplitRule | None = None,
    ) -> None:
        """Write the files.

        Args:
            decisions: The decisions of the first pass, in the order of the shard.
            counts: See `Table`.
            rule: The rule that has drawn the splits, None if the source gives them.
        """
        kept = [one for one in decisions if one.rejection is None]
        contents = "".join(one.record.image_hash for one in kept)
        places = b"".join(placement.row(one.record, rule, one.is_relabelled) for one in kept)
        hashed = [one for one in kept if len(one.perceptual_hash) == ALL_BYTES]
        rows = [bytes.fromhex(one.record.image_hash) + one.perceptual_hash for one in hashed]
        self._write("hashes", b"".join(rows))
        self._pickle("table", Table(bytes.fromhex(contents), places, counts or {}))
        # The hashes have a file of their own; the second pass needs none.
        waiting = [dataclasses.replace(one, perceptual_hash=b"") for one in decisions]
        self._pickle("decisions", waiting)

    def decisions(self) -> list[Decision]:
        """Read the decisions of the first pass, in the order of the shard."""
        found: list[Decision] = pickle.loads(self._read("decisions"))  # written by this pipeline
        return found

    def table(self) -> Table:
        """Read what is known about all images that passed the checks."""
        found: Table = pickle.loads(self._read("table"))
        return found

    def hashes(self) -> npt.NDArray[np.uint8]:
        """Read content hash and perceptual hashes of the images that can be compared.

        Returns:
            uint8 [n, `HASH_BYTES` + `ALL_BYTES`], 400 kB for 256 images.
        """
        return np.frombuffer(self._read("hashes"), np.uint8).reshape(-1, HASH_BYTES + ALL_BYTES)

    def _pickle(self, suffix: str, value: Any) -> None:
        self._write(suffix, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))

    def _write(self, suffix: str, data: bytes) -> None:
        write_bytes(f"{self.prefix}.{suffix}", data)

    def _read(self, suffix: str) -> bytes:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.prefix}.{suffix}", "rb") as file:
            return bytes(file.read())
