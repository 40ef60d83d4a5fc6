"""Search for groups of hashes within a Hamming radius, without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each hash is compared exactly with its next
neighbours. Similar hashes are neighbours in some of many such orders. This is locality-sensitive
hashing in which the number of bits depends on the number of images (Charikar 2002, Lv et al. 2007).
Hashes of whole images are sorted together with those of mirrored images, and then with those of
each crop. Apart from sorting, the time is linear in the number of images. The search needs 32 bytes
of memory per image, besides two kinds of hashes, which may be mapped from files. Every reported
pair was compared bit by bit, and its grey images confirmed that both are alike, so pairs may only
be missed. The radius is the same for every set. The orders come from a fixed seed, so runs are
repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file import grey_comparison
from imgpipe.components.image_file.grey_comparison import Pairs
from imgpipe.components.image_file.perceptual_hash import ALL_BYTES, BITS, BYTES, KINDS

#: Number of orders, and of neighbours compared in each. A pair at distance d among n images is
#: found with a probability of about 1 - (1 - (1 - d/256)^k)^ORDERS, where k = log2(2n / WINDOW)
#: bits or fewer.
ORDERS, WINDOW = 32, 16
#: The same two numbers for each crop. Lower numbers are enough, because a cropped copy is similar
#: to several crops.
CROP_ORDERS, CROP_WINDOW = 12, 8
#: Number of images up to which all pairs are compared, which is exact and as fast; and the number
#: of rows that are compared at once, which takes 1 MB.
ALL_PAIRS, _BLOCK = 1000, 64
#: Number of sorted hashes that are compared at once (2 MiB).
SORTED_BLOCK = 1 << 16
KEYS_AT_ONCE = 1 << 14  # hashes whose sort keys are computed at once, in the processor's cache
#: Number of pairs that wait for their confirmation (32 bytes each), and that are confirmed at once.
_WAITING, _CONFIRMED = 1 << 20, 1 << 14
_SPARE_BITS = 6  # additional bits of a sort key, because the bits of hashes are not independent
_SEED = 256

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hashes:
    """The hashes of images. One kind of hashes is read at a time, for example from a file.

    Attributes:
        rows: Row of each image in the columns, int64 [n].
        kinds: Number of kinds of hashes: upright, mirrored, crops.
        column: Function from the number of a kind to the hashes of that kind, uint8 [m, 32].
        greys: The grey images, uint8 [m, `GREY_BYTES`]. None when there are none, so that the
            hashes alone decide.
    """

    rows: Indices
    kinds: int
    column: Callable[[int], npt.NDArray[np.uint8]]
    greys: npt.NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, table: npt.NDArray[np.uint8]) -> Hashes:
        """Return the hashes of a table [n, `ALL_BYTES`], or of one without grey images."""
        whole = table.shape[1] == ALL_BYTES
        return cls(
            np.arange(len(table)),
            KINDS if whole else table.shape[1] // BYTES,
            lambda kind: table[:, kind * BYTES : (kind + 1) * BYTES],
            table[:, KINDS * BYTES :] if whole else None,
        )

    def kind(self, number: int) -> Words:
        """Return the hashes of one kind: uint64 [n, 4]."""
        return np.ascontiguousarray(self.column(number)[self.rows]).view(np.uint64)

    def alike(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        """Tell which pairs of images with similar hashes are alike, bool [m]."""
        if self.greys is None:
            return np.ones(len(pairs), bool)
        first, second = self.rows[pairs.first], self.rows[pairs.second]
        return grey_comparison.alike(self.greys, Pairs(first, second, pairs.kinds, pairs.bits))


def near_groups(hashes: Mapping[str, bytes], radius: int) -> dict[str, int]:
    """Find the groups of near-duplicates among images in memory.

    Args:
        hashes: Perceptual hashes by the name of the image; an image with other than `ALL_BYTES`
            bytes cannot be compared.
        radius: See `search`.

    Returns:
        The number of the group, by name, of the images that have near-duplicates.
    """
    names = sorted(name for name, value in hashes.items() if len(value) == ALL_BYTES)
    rows = np.frombuffer(b"".join(hashes[name] for name in names), np.uint8)
    firsts = search(Hashes.of(rows.reshape(-1, ALL_BYTES)), radius)
    return {names[n]: int(firsts[n]) for n in in_groups(firsts).tolist()}


def in_groups(firsts: Indices) -> Indices:
    """Return the indices of the images that are in a group with others; see `search`."""
    found: Indices = np.flatnonzero(np.bincount(firsts, minlength=len(firsts))[firsts] > 1)
    return found


def search(hashes: Hashes, radius: int) -> Indices:
    """Find the groups of connected images.

    Args:
        hashes: The hashes of n images.
        radius: Distance in bits. Two images are connected if the upright hash of one is within this
            distance of any hash of the other, and their grey images are alike.

    Returns:
        For each image the index of the first image of its group, int64 [n].
    """
    upright = hashes.kind(0)
    firsts = np.arange(len(upright))
    for number in range(1, hashes.kinds if len(upright) > 1 else 0):
        waiting: list[Pairs] = []
        for pairs in _near(upright, hashes.kind(number), number, radius):
            waiting.append(pairs)
            if sum(map(len, waiting)) >= _WAITING:
                firsts = _confirmed(hashes, waiting, firsts)
        if waiting:
            firsts = _confirmed(hashes, waiting, firsts)
    return firsts


def _confirmed(hashes: Hashes, waiting: list[Pairs], firsts: Indices) -> Indices:
    """Join the groups of pairs whose grey images are alike, and empty the list.

    Pairs that were found in several orders count once. The nearest are confirmed first, and what
    they connect needs no further confirmation.
    """
    pairs = Pairs.join(waiting)
    waiting.clear()
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    order = np.lexsort((pairs.bits, pairs.first > pairs.second, pairs.kinds, high, low))
    pairs = pairs.select(order)
    pairs = pairs.select(_changes(pairs.first, pairs.second, pairs.kinds))
    pairs = pairs.select(np.argsort(pairs.bits, kind="stable"))
    for start in range(0, len(pairs), _CONFIRMED):
        some = pairs.select(np.arange(start, min(start + _CONFIRMED, len(pairs))))
        some = some.select(firsts[some.first] != firsts[some.second])
        firsts = _joined(firsts, some.select(hashes.alike(some)))
    return firsts


def _joined(firsts: Indices, pairs: Pairs) -> Indices:
    """Return the first image of each image's group, when these pairs are connected too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return firsts
    ends = np.stack([firsts[pairs.first], firsts[pairs.second]])
    groups, (start, end) = np.unique(ends, return_inverse=True)
    shape = (len(groups), len(groups))
    graph = coo_array((np.ones(len(pairs), bool), (start, end)), shape)
    parts = connected_components(graph, directed=False)[1]
    now = np.arange(len(firsts))
    now[groups] = groups[np.unique(parts, return_index=True)[1]][parts]
    joined: Indices = now[firsts]
    return joined


def _changes(*columns: Indices) -> npt.NDArray[np.bool_]:
    """Tell which rows of sorted columns differ from the row before."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return new


def distances(one: Words, other: Words) -> npt.NDArray[np.int64]:
    """Compute Hamming distances of hashes [..., 4] and [..., 4], with broadcasting."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _near(upright: Words, other: Words, number: int, radius: int) -> Iterator[Pairs]:
    """Yield pairs of images within the radius.

    `upright` and `other` are uint64 [n, 4]; `other` holds the hashes of the kind `number`.
    """
    n = len(upright)
    if n <= ALL_PAIRS:
        yield from _all_near(upright, other, number, radius)
        if number == 1:  # upright hashes are compared once, beside the first other kind
            yield from _all_near(upright, upright, 0, radius)
        return
    orders, window = (ORDERS, WINDOW) if number == 1 else (CROP_ORDERS, CROP_WINDOW)
    rng = np.random.default_rng([_SEED, number])
    for _ in range(orders):
        order = _order((upright, other), rng.permutation(BITS))
        for start in range(0, 2 * n, SORTED_BLOCK):
            # Blocks overlap by a window, so that no pair is cut in two.
            some = order[start : start + SORTED_BLOCK + window]
            ordered = _taken(upright, other, some)
            for step in range(1, min(window + 1, len(some))):
                count = min(SORTED_BLOCK, len(some) - step)
                one, another = ordered[:, :count], ordered[:, step : step + count]
                near = within(one, another, radius)
                differing = differing_bits(one[:, near], another[:, near])
                yield _pairs(some[near], some[near + step], differing, n, number)


def _pairs(
    one: Indices, another: Indices, bits: npt.NDArray[np.uint16], n: int, number: int
) -> Pairs:
    """Return the pairs with at least one upright hash; the others do not count.

    Args:
        one: Indices in the table of the upright hashes and of the others, which begin at `n`.
        another: Indices of the second hash of each pair.
        bits: Number of differing bits of each pair.
        n: Number of images.
        number: Kind of the other hashes.
    """
    wanted = (one < n) | (another < n)
    low = np.minimum(one, another)[wanted]
    high = np.maximum(one, another)[wanted]
    return _pairs_of(low, high % n, np.where(high < n, 0, number), bits[wanted])


def _taken(upright: Words, other: Words, indices: Indices) -> Words:
    """Take some of the hashes, uint64 [4, m]; the indices of `other` follow those of `upright`."""
    n = len(upright)
    (is_other,) = np.nonzero(indices >= n)
    taken = _as_items(upright).take(indices, mode="clip")  # three times as fast as by [indices]
    taken[is_other] = _as_items(other).take(indices[is_other] - n, mode="clip")
    return np.ascontiguousarray(taken.view(np.uint64).reshape(-1, BYTES // 8).T)


def _as_items(table: Words) -> npt.NDArray[np.void]:
    """View hashes [n, 4] as an array of n items of 32 bytes."""
    return table.view(f"V{BYTES}")[:, 0]


def _all_near(one: Words, other: Words, number: int, radius: int) -> Iterator[Pairs]:
    """Do the same as `_near` by comparing all pairs."""
    others = np.ascontiguousarray(other.T)[:, None]
    for start in range(0, len(one), _BLOCK):
        block = np.ascontiguousarray(one[start : start + _BLOCK].T)[..., None]
        differing = differing_bits(block, others)
        first, second = np.nonzero(differing <= radius)
        kinds = np.full(len(first), number)
        yield _pairs_of(first + start, second, kinds, differing[first, second])


def differing_bits(one: Words, other: Words) -> npt.NDArray[np.uint16]:
    """Compute Hamming distances of hashes [4, …] and [4, …], with broadcasting."""
    total = np.bitwise_count(one[0] ^ other[0]).astype(np.uint16)  # 256 does not fit in uint8
    for word in range(1, len(one)):
        total += np.bitwise_count(one[word] ^ other[word])
    return total


def within(one: Words, other: Words, radius: int) -> Indices:
    """Return the positions [m] at which hashes [4, n] and [4, n] differ in at most `radius` bits.

    Half of the bits exclude nearly all pairs, since those of different images differ in half of
    their bits; the other half is compared for the pairs that are left.
    """
    half = np.bitwise_count(one[0] ^ other[0])
    half += np.bitwise_count(one[1] ^ other[1])  # at most 128, which fits in uint8
    (left,) = np.nonzero(half <= radius)
    return left[differing_bits(one[:, left], other[:, left]) <= radius]


def _order(tables: Sequence[Words], bits: Indices) -> Indices:
    """Sort the hashes of all tables by the first few of `bits`, and return their indices [m].

    As many bits are used as are needed to distinguish the hashes, and a few more. The lowest bits
    of each sort key are the index, which is twice as fast as `argsort`.
    """
    count = sum(map(len, tables))
    wide = count.bit_length()
    keys = np.empty(count, np.uint64)
    blocks = (
        table[start : start + KEYS_AT_ONCE]
        for table in tables
        for start in range(0, len(table), KEYS_AT_ONCE)
    )
    start = 0
    for block in blocks:
        own = keys[start : start + len(block)]
        own[:] = _bits(np.ascontiguousarray(block.T), bits[: wide + _SPARE_BITS].tolist())
        own <<= np.uint64(wide)
        own |= np.arange(start, start + len(block), dtype=np.uint64)
        start += len(block)
    keys.sort()
    keys &= np.uint64((1 << wide) - 1)
    return keys.view(np.int64)


def _bits(hashes: Words, bits: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Join some bits of each hash, uint64 [4, n], to a number [n], the most significant first."""
    joined, part = np.zeros((2, hashes.shape[1]), np.uint64)
    for bit in bits:
        np.right_shift(hashes[bit // 64], np.uint64(bit % 64), out=part)
        part &= np.uint64(1)
        joined <<= np.uint64(1)
        joined |= part
    return joined


def _pairs_of(
    first: Indices, second: Indices, kinds: Indices, bits: npt.NDArray[np.uint16]
) -> Pairs:
    """Create pairs, without those of an image with itself."""
    apart = first != second
    return Pairs(first[apart], second[apart], kinds[apart], bits[apart].astype(np.int64))
