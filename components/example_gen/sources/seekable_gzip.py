"""Reads any byte range of a gzip file without unpacking the whole of it.

Copies of the zlib decoder (a window of 32 KiB each) are kept at intervals, and reading goes on from
the nearest one. The package `indexed_gzip` 1.10 does the same, but it reports neither a file that
is cut off nor flipped bytes: both read as an ordinary end or as other data. A cache of unpacked
blocks serves readers that overtake each other.
"""

from __future__ import annotations

import collections
import functools
import os
import threading
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = 1 << 18  # bytes unpacked at once and kept
_BLOCKS_KEPT = 128  # 32 MiB, for readers in several threads
_INPUT = 1 << 14  # packed bytes read at once; a state keeps what is not used up of them
_STATES = 256  # some 50 KB each; with more, every second one goes and the spacing doubles
_SPACING = 16  # blocks between two states at first: 4 MiB
_GZIP = 31  # zlib's wbits for a gzip stream
#: Unpacked bytes from which on a ratio above `BOMB_RATIO` counts as a bomb. Photographs in a tar
#: hardly shrink; deflate's limit is 1032.
BOMB_BYTES, BOMB_RATIO = 1 << 30, 200


class Damaged(OSError):
    """The stream is cut off or broken."""


class Bomb(OSError):
    """The stream unpacks to far more than any pictures do."""


@dataclass
class _State:
    """A place in the stream that unpacking can go on from."""

    block: int  # the next block
    at: int  # next byte of the packed file
    pending: bytes  # read, and not yet used up
    decoder: Any
    fresh: bool  # nothing of the current gzip member was read yet

    def copy(self) -> _State:
        return _State(self.block, self.at, self.pending, self.decoder.copy(), self.fresh)


class SeekableGzip:
    """A gzip file (of one or several members) read at any place; safe to share among threads."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._lock = threading.Lock()
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._states = [_State(0, 0, b"", zlib.decompressobj(_GZIP), True)]
        self._spacing = _SPACING
        self._live = self._states[0].copy()

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` unpacked bytes from `offset`; fewer at the end.

        Raises Damaged or Bomb, both OSError.
        """
        parts = []
        end = offset + size
        while offset < end:
            number, start = divmod(offset, _BLOCK)
            block = self._block(number)
            part = block[start : start + end - offset]
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        with self._lock:
            if number not in self._blocks:
                self._unpack_to(number)
            self._blocks.move_to_end(number)
            return self._blocks[number]

    def _unpack_to(self, number: int) -> None:
        before = [state for state in self._states if state.block <= number]
        if not self._live.block <= number or before[-1].block > self._live.block:
            self._live = before[-1].copy()
        live = self._live
        while live.block <= number:
            if live.block >= self._states[-1].block + self._spacing:
                self._keep(live.copy())
            self._blocks[live.block] = self._next(live)
            live.block += 1
            while len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)

    def _keep(self, state: _State) -> None:
        self._states.append(state)
        if len(self._states) > _STATES:
            self._states = self._states[::2]
            self._spacing *= 2

    def _next(self, state: _State) -> bytes:
        """One block, shorter only at the end of the stream."""
        parts, missing = [], _BLOCK
        while missing:
            part = self._some(state, missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        out = state.block * _BLOCK
        if out > BOMB_BYTES and out > BOMB_RATIO * state.at:
            raise Bomb(f"unpacks to more than {BOMB_RATIO} times its size: {out >> 20} MiB so far")
        return b"".join(parts)

    def _some(self, state: _State, limit: int) -> bytes:
        """Between 1 and `limit` bytes, none at the end of the stream."""
        while True:
            ended = False
            if not state.pending:
                state.pending = os.pread(self._file, _INPUT, state.at)
                state.at += len(state.pending)
                ended = not state.pending
            if state.fresh:
                state.pending = state.pending.lstrip(b"\0")  # padding after a member
                if ended:
                    return b""
                if not state.pending:
                    continue
            try:
                data = state.decoder.decompress(state.pending, limit)
            except zlib.error as error:
                raise Damaged(
                    f"the gzip stream is broken near byte {state.at:,}: {error}"
                ) from None
            state.pending, state.fresh = state.decoder.unconsumed_tail, False
            if state.decoder.eof:
                state.pending = state.decoder.unused_data
                state.decoder, state.fresh = zlib.decompressobj(_GZIP), True
            if data:
                return bytes(data)
            if ended and not state.fresh:
                raise Damaged(f"the gzip stream is cut off at byte {state.at:,}")


def shared(path: str) -> SeekableGzip:
    """The reader of a file in this process, with all its states; another one once it changed."""
    status = Path(path).stat()
    return _shared(path, status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=4)
def _shared(path: str, *version: int) -> SeekableGzip:
    return SeekableGzip(path)
