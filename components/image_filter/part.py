"""The files that the first pass of the engine writes for a shard."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgpipe.components.image_filter import placement
from imgpipe.components.image_filter.decision import Decision
from imgpipe.components.image_filter.identical_files import Copy
from imgpipe.components.image_filter.near_duplicates import matching
from imgpipe.components.image_filter.near_duplicates.matching import Found
from imgpipe.components.image_filter.placement import Move
from imgpipe.components.splits import SplitRule
from imgpipe.components.storage.records import write_bytes


@dataclass(frozen=True)
class Part:
    """The four files that the first pass writes for a shard.

    Attributes:
        prefix: Path or URI of the files, without their suffix.
    """

    prefix: str

    def write(self, decisions: Sequence[Decision], rule: SplitRule | None = None) -> None:
        """Write the files; a second attempt writes the same files.

        Args:
            decisions: The decisions of the first pass.
            rule: The rule that has drawn the splits, None if the source gives them.
        """
        kept = [one for one in decisions if one.rejection is None]
        rows = [matching.row(one.record.image_hash, one.perceptual_hash) for one in kept]
        # The hashes are in the rows: the second pass reads the decisions and needs no hash.
        waiting = [dataclasses.replace(one, perceptual_hash=b"") for one in decisions]
        self._write("decisions", pickle.dumps(waiting, pickle.HIGHEST_PROTOCOL))
        self._write("contents", bytes.fromhex("".join(one.record.image_hash for one in kept)))
        self._write("rows", b"".join(rows))
        rows = [placement.row(one.record, rule, one.is_relabelled) for one in kept]
        self._write("places", b"".join(rows))

    def decisions(self) -> list[Decision]:
        """Read the decisions of the first pass, in the order of the shard."""
        found: list[Decision] = pickle.loads(self._read("decisions"))  # written by this pipeline
        return found

    def hashes(self) -> tuple[bytes, bytes]:
        """Read what the search compares, of the images that passed the checks.

        Returns:
            The rows for the search for near-duplicates (150 kB for 256 images), and the content
            hashes.
        """
        return self._read("rows"), self._read("contents")

    def places(self) -> bytes:
        """Read the rows for the placement in splits."""
        return self._read("places")

    def copies(
        self, wanted: Mapping[str, Found | None], moves: Mapping[str, Move] | None = None
    ) -> Iterator[tuple[str, Copy]]:
        """Yield (content hash, copy) of the images with a wanted content that passed the checks.

        Args:
            wanted: The wanted contents, by their hash.
            moves: Images that are moved to another split, by content hash.
        """
        contents = np.frombuffer(self._read("contents"), f"V{matching.HASH_BYTES}")
        if not any(content.tobytes().hex() in wanted for content in contents):
            return
        for one in self.decisions():
            record = one.moved((moves or {}).get(one.record.image_hash)).record
            if one.rejection is None and record.image_hash in wanted:
                copy = Copy(record.path, record.split, record.label, record.group)
                yield record.image_hash, copy

    def _write(self, suffix: str, data: bytes) -> None:
        write_bytes(f"{self.prefix}.{suffix}", data)

    def _read(self, suffix: str) -> bytes:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.prefix}.{suffix}", "rb") as file:
            return bytes(file.read())
