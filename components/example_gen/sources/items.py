"""The items of a source in little memory: packed in blocks, and unpacked when they are read.

An `Item` with its strings takes about 300 bytes. Packed, an item takes about 45: the blocks hold
the fields as columns, compressed. Most of it is the content hash, which cannot be compressed.
"""

from __future__ import annotations

import heapq
import itertools
import marshal
import operator
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from imgpipe.components.example_gen.sources.base import Item

#: Items in one block. Ingestion divides a source into shards of as many files, so that a shard is a
#: block that need not be packed again.
BLOCK = 256
RUN = 1 << 16  # items that are sorted at once
#: How the locators of items of a compressed stream begin; their position follows.
STREAM = "gz:"
REFUSED = "!"  # first character of the locator of an item that must not be read
_LEVEL = 1  # of zlib: the fastest; higher levels save less than 5 %

_path = operator.attrgetter("path")
_before_hash = operator.attrgetter("path", "label", "split", "symlink")
_after_hash = operator.attrgetter("group", "problem", "version", "locator")


class Items(Sequence[Item]):
    """An immutable sequence of items, packed in blocks.

    Iterating over it unpacks a block at a time. Reading single items by their index unpacks a block
    for each of them.
    """

    __slots__ = ("_blocks", "_length")

    def __init__(self, items: Iterable[Item] = ()) -> None:
        """Pack items.

        Args:
            items: The items, in the order of the sequence.
        """
        self._length = 0
        self._blocks: list[bytes] = []
        remaining = iter(items)
        while block := list(itertools.islice(remaining, BLOCK)):
            self._blocks.append(_pack(block))
            self._length += len(block)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        for block in self._blocks:
            yield from _unpack(block)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Items: ...
    def __getitem__(self, index: int | slice) -> Item | Items:
        """Return an item, or the items of a slice, which shares the blocks that it covers."""
        if isinstance(index, slice):
            return self._slice(range(self._length)[index])
        position = range(self._length)[index]  # raises IndexError, and counts from the end
        block = self._blocks[position // BLOCK]
        return next(itertools.islice(_unpack(block), position % BLOCK, None))

    def __eq__(self, other: object) -> bool:
        """Whether the other is a sequence of equal items."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # equal to tuples, which have other hashes

    def __repr__(self) -> str:
        return f"Items({list(self)!r})"

    def _drain(self) -> Iterator[Item]:
        """Yield all items and give up each block as soon as it is unpacked."""
        blocks, self._blocks, self._length = self._blocks[::-1], [], 0
        while blocks:
            yield from _unpack(blocks.pop())

    def _slice(self, chosen: range) -> Items:
        if chosen.step != 1:
            return Items(self[position] for position in chosen)
        first, skipped = divmod(chosen.start, BLOCK)
        blocks = self._blocks[first : -(-chosen.stop // BLOCK)] if chosen else []
        # Ingestion slices at the borders of blocks, which are then shared and not packed again.
        if skipped or (chosen.stop % BLOCK and chosen.stop < self._length):
            some = itertools.chain.from_iterable(map(_unpack, blocks))
            return Items(itertools.islice(some, skipped, skipped + len(chosen)))
        shared = Items()
        shared._blocks, shared._length = blocks, len(chosen)
        return shared


class ItemSorter:
    """Collects items in any order, and sorts them by path in little memory.

    Args:
        key: Function that returns what an item is sorted by, if not by its path.
    """

    def __init__(self, key: Callable[[Item], Any] = _path) -> None:
        self._key = key
        self._runs: list[Items] = []
        self._pending: list[Item] = []
        self.labelled = 0  # number of items with a label

    def __len__(self) -> int:
        return sum(map(len, self._runs)) + len(self._pending)

    def add(self, item: Item) -> None:
        """Add an item."""
        self._pending.append(item)
        self.labelled += bool(item.label)
        if len(self._pending) == RUN:
            self._pack()

    def extend(self, items: Iterable[Item]) -> None:
        """Add several items."""
        for item in items:
            self.add(item)

    def sorted(self) -> Items:
        """Return all items in order, and forget them."""
        self._pack()
        runs, self._runs = self._runs, []
        if len(runs) == 1:
            return runs[0]
        # Each block is freed as soon as it is merged, so that no item is held twice.
        return Items(heapq.merge(*map(Items._drain, runs), key=self._key))

    def _pack(self) -> None:
        if self._pending:
            self._runs.append(Items(sorted(self._pending, key=self._key)))
            self._pending = []


def in_reading_order(items: Sequence[Item]) -> Sequence[Item]:
    """Return the items in the order in which reading all of them is fast.

    A compressed stream has to be unpacked from the start on, so that its items are sorted by their
    positions; other items stay in the order of their paths.
    """
    locators = (item.locator for item in items)
    if not next((one for one in locators if one[:1] != REFUSED), "").startswith(STREAM):
        return items
    sorter = ItemSorter(_position)
    sorter.extend(items)
    return sorter.sorted()


def _position(item: Item) -> int:
    return int(item.locator.split(":")[1]) if item.locator.startswith(STREAM) else 0


def _pack(items: Sequence[Item]) -> bytes:
    before = zip(*map(_before_hash, items), strict=True)
    after = zip(*map(_after_hash, items), strict=True)
    # A hash takes 64 bytes as hexadecimal digits and 32 as bytes, which are not compressible.
    hashes = "".join(item.sha256 for item in items)
    lengths = {len(item.sha256) for item in items}
    # All have a hash, or none has one, unless some could not be read.
    content = bytes.fromhex(hashes) if lengths == {64} else [item.sha256 for item in items]
    return zlib.compress(marshal.dumps((*before, content, *after)), _LEVEL)


def _unpack(block: bytes) -> Iterator[Item]:
    path, label, split, symlink, content, *after = marshal.loads(zlib.decompress(block))
    if isinstance(content, bytes):
        text = content.hex()
        content = [text[start : start + 64] for start in range(0, len(text), 64)]
    return map(Item, path, label, split, symlink, content, *after)
