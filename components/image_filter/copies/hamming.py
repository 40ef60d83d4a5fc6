"""Pairs of images with similar perceptual hashes, without comparing all pairs.

Hashes are sorted by a random choice of their bits, and each hash is compared exactly with its next
neighbours. Similar hashes are neighbours in some of many such orders. This is locality-sensitive
hashing in which the number of bits depends on the number of images (Charikar 2002, Lv et al. 2007).
Apart from sorting, the time is linear in the number of images. Every pair was compared bit by bit,
so pairs may only be missed. The orders come from a fixed seed, so the result is repeatable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.image_file.pixels import BITS
from imgpipe.models.arrays import Indices

#: Number of images up to which all pairs are compared, which is exact and as fast.
ALL_PAIRS = 1000
_BLOCK = 64  # rows that are compared at once, which takes 1 MB
#: Hashes in the orders that are compared at once, which take 8 MB: of few hashes, several orders,
#: since each call of NumPy takes microseconds.
_ORDERED = 1 << 18
_WAITING = 1 << 20  # pairs that are passed on at once, of 32 bytes each
_SPARE_BITS = 6  # additional bits of a sort key, because the bits of hashes are not independent
_SEED = 256

Words = npt.NDArray[np.uint64]


#: Two images with similar hashes: the one whose upright hash was compared, the other one, the kind
#: of the hash of the other one, and the number of bits in which these hashes differ.
_PAIR = np.dtype([("first", "i8"), ("second", "i8"), ("kind", "i8"), ("bits", "i8")])
Pairs = npt.NDArray[np.void]


def pairs_of(
    first: Indices | int, second: Indices | int, kind: Indices | int, bits: Indices
) -> Pairs:
    """Return pairs, [m]; a number is that of all pairs."""
    pairs = np.empty(len(bits), _PAIR)
    pairs["first"] = first
    pairs["second"] = second
    pairs["kind"] = kind
    pairs["bits"] = bits
    return pairs


class Effort(NamedTuple):
    """How thoroughly neighbours are looked for.

    A pair at distance d among n images is found with a probability of about
    1 - (1 - (1 - d/256)^k)^orders, where k = log2(2n / window) bits or fewer.
    """

    orders: int
    window: int  # neighbours that are compared in each order


def neighbours(
    upright: Words, other: Words, number: int, radius: int, effort: Effort
) -> Iterator[Pairs]:
    """Yield pairs of an upright and another hash that differ in at most `radius` bits.

    Many come at a time. Both are hashes of the same images, uint64 [n, 4]; `number` is that of the
    other kind, 0 if it is the same. Of many images also pairs of upright hashes come, which are of
    the kind 0.
    """
    waiting: list[Pairs] = []
    count = 0
    find = _all_near if len(upright) <= ALL_PAIRS else _near
    for pairs in find(upright, other, number, radius, effort):
        waiting.append(pairs)
        count += len(pairs)
        if count >= _WAITING:
            yield np.concatenate(waiting)
            waiting.clear()
            count = 0
    if waiting:
        yield np.concatenate(waiting)


def _near(
    upright: Words, other: Words, number: int, radius: int, effort: Effort
) -> Iterator[Pairs]:
    """Yield the pairs of several orders at a time."""
    n = len(upright)
    rng = np.random.default_rng([_SEED, number])
    both = np.concatenate([upright, other]) if number else upright
    together = max(1, _ORDERED // len(both))
    for start in range(0, effort.orders, together):
        count = min(together, effort.orders - start)
        order = np.concatenate([_order(both, rng.permutation(BITS)) for _ in range(count)])
        ordered = np.ascontiguousarray(both[order].T)
        place = np.tile(np.arange(len(both)), count)  # of each hash in its order
        for step in range(1, min(effort.window, len(both) - 1) + 1):
            earlier = ordered[:, :-step]
            later = ordered[:, step:]
            near = _within(earlier, later, radius)
            near = near[place[near] < len(both) - step]  # the end of one order begins no other
            bits = differing_bits(earlier[:, near], later[:, near])
            first = order[near]
            second = order[near + step]
            # Pairs with at least one upright hash; the others do not count.
            low = np.minimum(first, second)
            high = np.maximum(first, second)
            pairs = pairs_of(low, high % n, np.where(high < n, 0, number), bits)
            yield _apart(pairs[low < n])


def _all_near(
    upright: Words, other: Words, number: int, radius: int, effort: Effort
) -> Iterator[Pairs]:
    """Do the same as `_near` by comparing all pairs."""
    columns = np.ascontiguousarray(other.T)[:, None]
    for start in range(0, len(upright), _BLOCK):
        block = np.ascontiguousarray(upright[start : start + _BLOCK].T)[..., None]
        differing = differing_bits(block, columns)
        first, second = np.nonzero(differing <= radius)
        yield _apart(pairs_of(first + start, second, number, differing[first, second]))


def differing_bits(first: Words, second: Words) -> Indices:
    """Compute Hamming distances of hashes [4, …] and [4, …], with broadcasting."""
    total = np.bitwise_count(first[0] ^ second[0]).astype(np.uint16)  # 256 does not fit in uint8
    for word in range(1, len(first)):
        total += np.bitwise_count(first[word] ^ second[word])
    return total.astype(np.int64)


def _within(first: Words, second: Words, radius: int) -> Indices:
    """Return the positions [m] at which hashes [4, n] and [4, n] differ in at most `radius` bits.

    Half of the bits exclude nearly all pairs, since those of different images differ in half of
    their bits; the other half is compared for the pairs that are left.
    """
    half = np.bitwise_count(first[0] ^ second[0])
    half += np.bitwise_count(first[1] ^ second[1])  # at most 128, which fits in uint8
    (left,) = np.nonzero(half <= radius)
    return left[differing_bits(first[:, left], second[:, left]) <= radius]


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


def _apart(pairs: Pairs) -> Pairs:
    """Return the pairs without those of an image with itself."""
    return pairs[pairs["first"] != pairs["second"]]
