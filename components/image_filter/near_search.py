"""Search for groups of hashes within a Hamming radius, without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each hash is compared exactly with its next
neighbours. Similar hashes are neighbours in some of many such orders. This is locality-sensitive
hashing in which the number of bits depends on the number of images (Charikar 2002, Lv et al. 2007).
Hashes of whole images are sorted together with those of mirrored images, and then with those of
each crop. Apart from sorting, the time is linear in the number of images. Every reported pair was
compared bit by bit, and its grey images confirmed that both are alike, so pairs may only be missed.
The radius is the same for every set. The orders come from a fixed seed, so runs are repeatable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file import perceptual_hash
from imgpipe.components.image_file.perceptual_hash import ALL_BYTES, BITS, BYTES, KINDS, Pairs

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
#: Number of pairs that wait for their confirmation (32 bytes each), and that are confirmed at once.
_WAITING, _CONFIRMED = 1 << 20, 1 << 14
_SPARE_BITS = 6  # additional bits of a sort key, because the bits of hashes are not independent
_SEED = 256

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hashes:
    """The perceptual hashes of n images.

    Attributes:
        table: As `perceptual_hashes` returns them, uint8 [n, `ALL_BYTES`]; or the hashes of some
            kinds without the grey images, so that the hashes alone decide.
    """

    table: npt.NDArray[np.uint8]

    @property
    def kinds(self) -> int:
        """Number of kinds of hashes: upright, mirrored, crops."""
        return min(self.table.shape[1] // BYTES, KINDS)

    def kind(self, number: int) -> Words:
        """Return the hashes of one kind: uint64 [n, 4]."""
        column = self.table[:, number * BYTES : (number + 1) * BYTES]
        return np.ascontiguousarray(column).view(np.uint64)

    def alike(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        """Tell which pairs of images with similar hashes are alike, bool [m]."""
        if self.table.shape[1] < ALL_BYTES:
            return np.ones(len(pairs), bool)
        return perceptual_hash.alike(self.table[:, KINDS * BYTES :], pairs)


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
    firsts = search(Hashes(rows.reshape(-1, ALL_BYTES)), radius)
    (others,) = np.nonzero(np.bincount(firsts, minlength=len(firsts))[firsts] > 1)
    return {names[n]: int(firsts[n]) for n in others.tolist()}


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
    """Join the groups of pairs whose grey images are alike, the nearest first; empty the list."""
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
    both = np.concatenate([upright, other])
    for _ in range(orders):
        order = _order(both, rng.permutation(BITS))
        ordered = np.ascontiguousarray(both[order].T)
        for step in range(1, min(window, len(order) - 1) + 1):
            one, another = ordered[:, :-step], ordered[:, step:]
            near = _within(one, another, radius)
            bits = differing_bits(one[:, near], another[:, near])
            first, second = order[near], order[near + step]
            # Pairs with at least one upright hash; the others do not count.
            low, high = np.minimum(first, second), np.maximum(first, second)
            wanted = low < n
            low, high, bits = low[wanted], high[wanted], bits[wanted]
            yield _pairs_of(low, high % n, np.where(high < n, 0, number), bits)


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


def _within(one: Words, other: Words, radius: int) -> Indices:
    """Return the positions [m] at which hashes [4, n] and [4, n] differ in at most `radius` bits.

    Half of the bits exclude nearly all pairs, since those of different images differ in half of
    their bits; the other half is compared for the pairs that are left.
    """
    half = np.bitwise_count(one[0] ^ other[0])
    half += np.bitwise_count(one[1] ^ other[1])  # at most 128, which fits in uint8
    (left,) = np.nonzero(half <= radius)
    return left[differing_bits(one[:, left], other[:, left]) <= radius]


def _order(hashes: Words, bits: Indices) -> Indices:
    """Sort hashes, uint64 [m, 4], by the first few of `bits`, and return their indices [m].

    The lowest bits of each sort key are the index, which is twice as fast as `argsort`.
    """
    wide = len(hashes).bit_length()
    keys = np.zeros(len(hashes), np.uint64)
    for bit in bits[: wide + _SPARE_BITS].tolist():
        keys <<= np.uint64(1)
        keys |= (hashes[:, bit // 64] >> np.uint64(bit % 64)) & np.uint64(1)
    keys <<= np.uint64(wide)
    keys |= np.arange(len(hashes), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << wide) - 1)
    return keys.view(np.int64)


def _pairs_of(
    first: Indices, second: Indices, kinds: Indices, bits: npt.NDArray[np.uint16]
) -> Pairs:
    """Create pairs, without those of an image with itself."""
    apart = first != second
    return Pairs(first[apart], second[apart], kinds[apart], bits[apart].astype(np.int64))
