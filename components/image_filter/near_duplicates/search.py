"""Search for groups of hashes within a Hamming radius, without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each hash is compared exactly with its next
neighbours. Similar hashes are neighbours in some of many such orders. This is locality-sensitive
hashing in which the number of bits depends on the number of images (Charikar 2002, Lv et al. 2007).
Hashes of whole images are sorted together with those of mirrored images, and then with those of
each crop. Apart from sorting, the time is linear in the number of images. Besides the hashes, the
search needs 200 bytes of memory per image. Every reported pair was compared bit by bit, so pairs
may only be missed. The orders come from a fixed seed, so runs are repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import BITS, BYTES

#: Number of orders, and of neighbours compared in each. A pair at distance d among n images is
#: found with a probability of about 1 - (1 - (1 - d/256)^k)^ORDERS, where k = log2(2n / WINDOW)
#: bits or fewer.
ORDERS, WINDOW = 32, 16
#: The same for each crop. Fewer are enough, as a cropped copy is similar to several crops.
CROP_ORDERS, CROP_WINDOW = 12, 8
#: Radius in bits. Copies that were saved again, resized, brightened or cropped by 5 % are within
#: it. No two different images of 1,240 and of 4,160 flowers are (the nearest: 55 and 41 bits).
RADIUS = 40
#: Copies that were saved again are within this many bits, whatever they show.
_CERTAIN = 8
#: Number of random pairs from which the natural similarity of the images of a set is estimated.
_SAMPLE = 40_000
_FEWEST = 1000  # pairs that are needed for an estimate
#: Pairs this many standard deviations below the median of all pairs are not similar by chance.
_SIGMAS = 5.0
_SIGMAS_AT_1_PERCENT = 2.326
#: Number of images up to which all pairs are compared, which is exact and as fast; and the number
#: of rows that are compared at once, which takes 1 MB.
_ALL_PAIRS, _BLOCK = 1000, 64
_SPARE_BITS = 6  # additional bits of a sort key, because the bits of hashes are not independent
_SEED = 256

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hashes:
    """The hashes of n images. One kind of hashes is read at a time, for example from a file.

    Attributes:
        column: Function from the number of a kind (upright, mirrored, crops) to the hashes of that
            kind, uint8 [m, 32], in the order of `perceptual_hash.perceptual_hashes`.
        kinds: Number of kinds.
        order: int64 [n], the indices of the images among the m rows.
    """

    column: Callable[[int], npt.NDArray[np.uint8]]
    kinds: int
    order: Indices

    @classmethod
    def of(cls, table: npt.NDArray[np.uint8]) -> Hashes:
        """Create the hashes from an array.

        Args:
            table: uint8 [n, 32 · kinds].
        """

        def column(number: int) -> npt.NDArray[np.uint8]:
            return table[:, number * BYTES : (number + 1) * BYTES]

        return cls(column, table.shape[1] // BYTES, np.arange(len(table)))

    def __len__(self) -> int:
        return len(self.order)

    def kind(self, number: int) -> Words:
        """Return the hashes of one kind: uint64 [n, 4]."""
        return np.ascontiguousarray(self.column(number)).view(np.uint64)[self.order]


def groups(hashes: Hashes, radius: int) -> Indices:
    """Find groups of images that are connected by steps of at most `radius` bits.

    Args:
        hashes: The hashes of n images.
        radius: Distance in bits. Two images are connected if the upright hash of one is within this
            distance of any hash of the other.

    Returns:
        Group number of each image, int64 [n]: the index of the first member of the group.
    """
    n = len(hashes)
    parents = np.arange(n)
    if n < 2:
        return parents
    upright = hashes.kind(0)
    for number in range(1, hashes.kinds):
        other = hashes.kind(number)
        for first, second in _near(upright, other, number, radius):
            parents = _joined(parents, first, second)
    return parents


def fitting_radius(hashes: Hashes, limit: int = RADIUS) -> int:
    """Return a smaller radius than `limit` for sets whose images are naturally similar.

    Examples of such sets are hands in front of one wall, or rendered figures. The median of the
    distances of random pairs, and their first percentile, give a standard deviation; the radius is
    five standard deviations below the median. For photographs it stays 40. For 1,651 hands in front
    of a white wall, of which 18,924 pairs are within 48 bits, it is 8.

    Args:
        hashes: The hashes of the set.
        limit: Largest radius in bits.
    """
    n = len(hashes)
    pairs = n * (n - 1) // 2
    if pairs < _FEWEST:
        return limit
    rng = np.random.default_rng(_SEED)
    first = rng.integers(n, size=_SAMPLE)
    second = (first + rng.integers(1, n, size=_SAMPLE)) % n
    upright = hashes.kind(0)
    seen = distances(upright[first], upright[second])
    unlike = seen[seen > _CERTAIN]
    if not len(unlike):
        return min(limit, _CERTAIN)
    low, median = np.quantile(unlike, (0.01, 0.5))
    radius = int(median - (median - low) / _SIGMAS_AT_1_PERCENT * _SIGMAS)
    return min(limit, max(_CERTAIN, radius))


def words(hashes: bytes) -> Words:
    """Return n concatenated hashes as uint64 [n, 4]."""
    return np.frombuffer(hashes, np.uint8).reshape(-1, BYTES).view(np.uint64)


def distances(one: Words, other: Words) -> npt.NDArray[np.int64]:
    """Compute Hamming distances of hashes [..., 4] and [..., 4], with broadcasting."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _near(
    upright: Words, other: Words, number: int, radius: int
) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of indices [m] and [m] of images within the radius.

    `upright` and `other` are uint64 [n, 4]; `other` holds the hashes of the kind `number`.
    """
    if len(upright) <= _ALL_PAIRS:
        yield from _all_near(upright, other, radius)
        if number == 1:
            yield from _all_near(upright, upright, radius)
        return
    n = len(upright)
    table = np.ascontiguousarray(np.concatenate([upright, other]).T)
    orders, window = (ORDERS, WINDOW) if number == 1 else (CROP_ORDERS, CROP_WINDOW)
    rng = np.random.default_rng([_SEED, number])
    for _ in range(orders):
        order = _order(table, rng.permutation(BITS))
        ordered = table[:, order]
        for step in range(1, window + 1):
            (near,) = np.nonzero(differing_bits(ordered[:, :-step], ordered[:, step:]) <= radius)
            first, second = order[near], order[near + step]
            wanted = (first < n) | (second < n)  # a pair of two other hashes does not count
            yield first[wanted] % n, second[wanted] % n


def _all_near(one: Words, other: Words, radius: int) -> Iterator[tuple[Indices, Indices]]:
    """Do the same as `_near` by comparing all pairs."""
    others = np.ascontiguousarray(other.T)[:, None]
    for start in range(0, len(one), _BLOCK):
        block = np.ascontiguousarray(one[start : start + _BLOCK].T)[..., None]
        first, second = np.nonzero(differing_bits(block, others) <= radius)
        yield first + start, second


def differing_bits(one: Words, other: Words) -> npt.NDArray[np.uint16]:
    """Compute Hamming distances of hashes [4, …] and [4, …], with broadcasting."""
    total = np.bitwise_count(one[0] ^ other[0]).astype(np.uint16)  # 256 does not fit in uint8
    for word in range(1, len(one)):
        total += np.bitwise_count(one[word] ^ other[word])
    return total


def _order(table: Words, bits: Indices) -> Indices:
    """Sort the hashes in `table` [4, m] by the first few of `bits`, and return their indices [m].

    As many bits are used as are needed to distinguish the hashes, and a few more. The lowest bits
    of each sort key are the index, which is twice as fast as `argsort`.
    """
    count = table.shape[1]
    wide = count.bit_length()
    keys = np.zeros(count, np.uint64)
    for bit in bits[: wide + _SPARE_BITS].tolist():
        part = table[bit // 64] >> np.uint64(bit % 64)
        part &= np.uint64(1)
        keys <<= np.uint64(1)
        keys |= part
    keys <<= np.uint64(wide)
    keys |= np.arange(count, dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << wide) - 1)
    return keys.astype(np.int64)


def _joined(parents: Indices, one: Indices, other: Indices) -> Indices:
    """Join the groups of `one` and `other`; the lowest index is the number of a group.

    Before and after, each element of `parents` is the number of its group.
    """
    while True:
        low, high = parents[one], parents[other]
        low, high = np.minimum(low, high), np.maximum(low, high)
        apart = low != high
        if not apart.any():
            return parents
        np.minimum.at(parents, high[apart], low[apart])
        while not np.array_equal(named := parents[parents], parents):
            parents = named
