"""Groups of hashes within a Hamming radius, found without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each is compared exactly with its next
neighbours; near hashes become neighbours in some of many such orders (locality-sensitive hashing
with as many bits as the density asks for: Charikar 2002, Lv et al. 2007). Hashes of whole images
are sorted among those of mirrored ones, and of each crop in turn. The cost is linear in the number
of images but for the sorting, the memory beside the hashes two hundred bytes an image. What is
called near was compared bit by bit, so only a miss is by chance; the orders are drawn from a fixed
seed, so a run repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgpipe.components.image_file.perceptual_hash import BITS, BYTES

#: Orders, and neighbours compared in each. Recall of one pair at distance d among n images is
#: about 1 - (1 - (1 - d/256)^k)^ORDERS with k = log2(2n / WINDOW) bits or fewer.
ORDERS, WINDOW = 32, 16
#: The same for each crop: a cropped copy is near several of them.
CROP_ORDERS, CROP_WINDOW = 12, 8
#: Radius (bits) within which copies saved again, shrunk, brightened and cropped by 5 % lie, and
#: under which no two different images of 1,240 and of 4,160 flowers do (nearest: 55 and 41).
RADIUS = 40
#: Copies saved again lie within this many bits whatever they show.
_CERTAIN = 8
#: Random pairs looked at to see how alike the images of a set are by nature.
_SAMPLE = 40_000
_FEWEST = 1000  # of such pairs that say anything
#: Standard deviations under the median of unlike pairs where likeness stops being chance.
_SIGMAS = 5.0
_SIGMAS_AT_1_PERCENT = 2.326
#: Images up to which all pairs are compared, which is exact and as fast; rows at once: 1 MB.
_ALL_PAIRS, _BLOCK = 1000, 64
_SPARE_BITS = 6  # of a key, beyond those that number the hashes: images are not random bits
_SEED = 256

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hashes:
    """The hashes of n images, which may lie in files: one kind of them is fetched at a time.

    Attributes:
      column: from the number of a kind (upright, mirrored, crops) to the hashes of that kind,
        uint8 [m, 32], as `perceptual_hash.perceptual_hashes` has them.
      kinds: how many kinds there are.
      order: int64 [n], which of the m images in which order.
    """

    column: Callable[[int], npt.NDArray[np.uint8]]
    kinds: int
    order: Places

    @classmethod
    def of(cls, table: npt.NDArray[np.uint8]) -> Hashes:
        """Of uint8 [n, 32 · kinds]."""

        def column(number: int) -> npt.NDArray[np.uint8]:
            return table[:, number * BYTES : (number + 1) * BYTES]

        return cls(column, table.shape[1] // BYTES, np.arange(len(table)))

    def __len__(self) -> int:
        return len(self.order)

    def kind(self, number: int) -> Words:
        """Uint64 [n, 4]: one of the hashes of each image."""
        return np.ascontiguousarray(self.column(number)).view(np.uint64)[self.order]


def groups(hashes: Hashes, radius: int) -> Places:
    """Group of each image: equal numbers are connected by steps of at most `radius` bits.

    Args:
      hashes: of n images.
      radius: bits; two images are near when the upright hash of one is that close to any hash
        of the other.

    Returns:
      Int64 [n]; the number is the place of the group's first member.
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
    """`limit`, or less where images are alike by nature: hands before one wall, rendered figures.

    The distances of random pairs give a median and, from their lowest hundredth, a standard
    deviation; the radius is five of those below the median. That leaves images at 40 and
    brings 1,651 hands before a white wall, of which 18,924 pairs lie within 48 bits, to 8.
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
    """Uint64 [n, 4] of n hashes in a row."""
    return np.frombuffer(hashes, np.uint8).reshape(-1, BYTES).view(np.uint64)


def distances(one: Words, other: Words) -> npt.NDArray[np.int64]:
    """Hamming distances of hashes [..., 4] and [..., 4], with broadcasting."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _near(
    upright: Words, other: Words, number: int, radius: int
) -> Iterator[tuple[Places, Places]]:
    """Images [m] and [m] of which one's upright hash is near a hash of the other.

    `other` are their hashes of the kind `number`; both uint64 [n, 4].
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
            (near,) = np.nonzero(_differing(ordered[:, :-step], ordered[:, step:]) <= radius)
            first, second = order[near], order[near + step]
            wanted = (first < n) | (second < n)  # of two that are not upright, nothing follows
            yield first[wanted] % n, second[wanted] % n


def _all_near(one: Words, other: Words, radius: int) -> Iterator[tuple[Places, Places]]:
    """The same by comparing all pairs."""
    others = np.ascontiguousarray(other.T)[:, None]
    for start in range(0, len(one), _BLOCK):
        block = np.ascontiguousarray(one[start : start + _BLOCK].T)[..., None]
        first, second = np.nonzero(_differing(block, others) <= radius)
        yield first + start, second


def _differing(one: Words, other: Words) -> npt.NDArray[np.uint16]:
    """Hamming distances of hashes [4, …] and [4, …], with broadcasting."""
    total = np.bitwise_count(one[0] ^ other[0]).astype(np.uint16)  # 256 is no uint8
    for word in range(1, len(one)):
        total += np.bitwise_count(one[word] ^ other[word])
    return total


def _order(table: Words, bits: Places) -> Places:
    """Places [m] of the hashes in `table` [4, m] in the order of the first few of `bits`.

    Those are as many as tell the hashes apart and some; equal ones stay in the order of the table.
    The place stands in the lowest bits of the key, which sorts twice as fast as `argsort`.
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


def _joined(parents: Places, one: Places, other: Places) -> Places:
    """Groups after joining those of `one` and `other`; the lowest place names each.

    Every place points at its group's name before and after.
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
