"""The fingerprint of a source depends on its items in any order and needs 32 bytes for each."""

from __future__ import annotations

import hashlib
import random
import tracemalloc

from imgpipe.components.example_gen.sources.base import KEY_BYTES, fingerprint

_KEYS = [
    *(hashlib.sha256(str(number).encode()).digest() for number in range(2_000)),
    *(bytes(KEY_BYTES), bytes(31) + b"\x01", b"\x01" + bytes(31), b"a" * 31 + b"\x00"),
]


def test_the_fingerprint_is_the_hash_of_the_sorted_keys() -> None:
    expected = hashlib.sha256(b"".join(sorted(_KEYS))).hexdigest()
    shuffled = random.Random(0).sample(_KEYS, len(_KEYS))
    assert fingerprint(shuffled) == expected
    assert fingerprint([b"".join(_KEYS[:300]), *_KEYS[300:]]) == expected, "joined by shard"
    assert fingerprint([]) == hashlib.sha256().hexdigest()


def test_the_fingerprint_of_many_items_needs_little_memory() -> None:
    parts = [random.Random(n).randbytes(KEY_BYTES * 1_000) for n in range(100)]
    tracemalloc.start()
    try:
        fingerprint(parts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 * 3 * KEY_BYTES
