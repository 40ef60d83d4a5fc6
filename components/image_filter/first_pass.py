"""The first pass over a set of images, which decides about each image on its own.

Two drivers run both passes, Beam for ImageFilter and a thread pool for ``imgpipe check``, so both
give the same results. A set is divided into shards. The first pass writes its decisions, and the
data for the comparison, to files, so memory does not grow with the number of images. Then one
process compares all images with each other (`comparison.compare`). The second pass
(`Comparison.settle`) combines the results; its driver writes each image once, to where it belongs.
"""

from __future__ import annotations

import collections
import dataclasses
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.image_filter import placement
from imgpipe.components.image_filter.check import Settings
from imgpipe.components.image_filter.checks import CHECKS
from imgpipe.components.image_filter.decision import Decision, decide
from imgpipe.components.image_record import ImageRecord
from imgpipe.components.storage.records import write_bytes
from imgpipe.models import progress

HASH_BYTES = 32  # length of a SHA-256


@dataclass
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

    def write(self, decisions: list[Decision], table: Table, hashes: bytes) -> None:
        """Write the files."""
        write_bytes(f"{self.prefix}.decisions", _pickled(decisions))
        write_bytes(f"{self.prefix}.table", _pickled(table))
        write_bytes(f"{self.prefix}.hashes", hashes)

    def _read(self, suffix: str) -> bytes:
        import tensorflow as tf

        with tf.io.gfile.GFile(f"{self.prefix}.{suffix}", "rb") as file:
            return bytes(file.read())


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def examine(
    records: Iterable[ImageRecord],
    settings: Settings,
    part: Part,
    keep: Callable[[ImageRecord], None] | None = None,
) -> None:
    """Run the first pass over a shard.

    Args:
        records: The inspected images.
        settings: Settings of the checks.
        part: Files to write.
        keep: Function that stores a repaired record for the second pass; None when nothing is
            written.
    """
    decisions: list[Decision] = []
    table, hashes = Table(), []
    for record in records:
        decision = decide(record, settings)
        if decision.rejection is None:
            content = bytes.fromhex(record.image_hash)
            table.contents += content
            table.places += placement.row(decision.record, settings.splits, decision.is_relabelled)
            if len(decision.perceptual_hash) == ALL_BYTES:
                hashes.append(content + decision.perceptual_hash)
            for check in CHECKS:
                if check.counted is not None:
                    counter = table.counts.setdefault(check.name, collections.Counter())
                    counter[check.counted(decision.record)] += 1
        if decision.repaired is not None and keep is not None:
            keep(decision.repaired)
        # The hashes have a file of their own; the second pass needs none.
        decisions.append(dataclasses.replace(decision.without_pixels(), perceptual_hash=b""))
        progress.advance(1, "images")
    part.write(decisions, table, b"".join(hashes))
