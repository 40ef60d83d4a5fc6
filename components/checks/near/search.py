"""Groups of hashes within a Hamming radius, found without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each is compared exactly with its next
neighbours; near hashes become neighbours in some of many such orders (locality-sensitive hashing
with as many bits as the density asks for: Charikar 2002, Lv et al. 2007). The cost is linear in the
number of pictures, the memory some hundred bytes a picture. What is called near was compared bit
by bit, so only a miss is by chance; the orders are drawn from a fixed seed, so a run repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from components.checks.near.hashing import BITS, BYTES, PictureHash

#: Orders, and neighbours compared in each. Recall of one pair at distance d among n pictures is
#: about 1 - (1 - (1 - d/256)^k)^ORDERS with k = log2(2n / WINDOW) bits or fewer.
ORDERS, WINDOW = 32, 16
#: Radius (bits) up to which saved-again, shrunk and brightened copies and most crops by 5 % lie,
#: and under which no two different photographs of 1,240 do (nearest: 58).
RADIUS = 48
#: Copies saved again lie within this many bits whatever they show.
_CERTAIN = 8
#: Random pairs looked at to see how alike the pictures of a set are by nature.
_SAMPLE = 40_000
_FEWEST = 1000  # of such pairs that say anything
#: Standard deviations under the median of unlike pairs where likeness stops being chance.
_SIGMAS = 5.0
_SIGMAS_AT_1_PERCENT = 2.326
_KEY_BITS = 64
_ROWS = 8192  # hashes unpacked at once: 2 MB
_SEED = 256

Words = npt.NDArray[np.uint64]


def groups(hashes: Sequence[PictureHash], radius: int) -> npt.NDArray[np.int64]:
    """Group of each hash: equal numbers are connected by steps of at most `radius` bits.

    Args:
      hashes: of n pictures.
      radius: bits; two pictures are near when one's hash, or its mirrored hash, is that close to
        the other's.

    Returns:
      Int64 [n]; the number is the place of the group's first member.
    """
    n = len(hashes)
    parents = np.arange(n)
    if n < 2:
        return parents
    table = words([h.upright for h in hashes] + [h.mirrored for h in hashes])
    for first, second in _neighbours(table):
        near = distances(table[first], table[second]) <= radius
        one, other = first[near] % n, second[near] % n
        apart = parents[one] != parents[other]
        if apart.any():
            parents = _joined(parents, one[apart], other[apart])
    return parents


def fitting_radius(hashes: Sequence[PictureHash], limit: int = RADIUS) -> int:
    """`limit`, or less where pictures are alike by nature: hands before one wall, rendered figures.

    The distances of random pairs give a median and, from their lowest hundredth, a standard
    deviation; the radius is five of those below the median. That leaves photographs at 48 and
    brings 1,651 hands before a white wall, of which 18,924 pairs lie within 48 bits, to 8.
    """
    n = len(hashes)
    pairs = n * (n - 1) // 2
    if pairs < _FEWEST:
        return limit
    rng = np.random.default_rng(_SEED)
    first = rng.integers(n, size=_SAMPLE)
    second = (first + rng.integers(1, n, size=_SAMPLE)) % n
    upright = words([h.upright for h in hashes])
    seen = distances(upright[first], upright[second])
    unlike = seen[seen > _CERTAIN]
    if not len(unlike):
        return min(limit, _CERTAIN)
    low, median = np.quantile(unlike, (0.01, 0.5))
    radius = int(median - (median - low) / _SIGMAS_AT_1_PERCENT * _SIGMAS)
    return min(limit, max(_CERTAIN, radius))


def words(hashes: Sequence[bytes]) -> Words:
    """Uint64 [n, 4] of n hashes."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, BYTES).view(np.uint64)


def distances(one: Words, other: Words) -> npt.NDArray[np.int64]:
    """Hamming distances of hashes [..., 4] and [..., 4], with broadcasting."""
    return np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64)


def _neighbours(table: Words) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Places to compare in `table` [2n, 4], upright hashes first: at least one of two upright."""
    n = len(table) // 2
    rng = np.random.default_rng(_SEED)
    for _ in range(ORDERS):
        order = np.argsort(_keys(table, rng.permutation(BITS)[:_KEY_BITS]), kind="stable")
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            wanted = (first < n) | (second < n)
            yield first[wanted], second[wanted]


def _keys(table: Words, chosen: npt.NDArray[np.int64]) -> Words:
    """The chosen 64 bits of each hash as one number, uint64 [len(table)]."""
    keys = np.empty(len(table), np.uint64)
    for start in range(0, len(table), _ROWS):
        part = np.ascontiguousarray(table[start : start + _ROWS]).view(np.uint8)
        bits = np.unpackbits(part, axis=1)[:, chosen]
        packed = np.ascontiguousarray(np.packbits(bits, axis=1))
        keys[start : start + _ROWS] = packed.view(">u8").reshape(-1)
    return keys


def _joined(
    parents: npt.NDArray[np.int64], one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Groups after joining those of `one` and `other` (union-find); the lowest place names each."""
    roots = parents.tolist()

    def root(place: int) -> int:
        while roots[place] != place:
            roots[place] = roots[roots[place]]
            place = roots[place]
        return place

    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        a, b = root(a), root(b)
        if a != b:
            roots[max(a, b)] = min(a, b)
    return np.array([root(place) for place in range(len(roots))])
