"""Reads any byte range of a gzip file without unpacking all of it.

Copies of the zlib decoder (with a window of 32 KiB each) are kept at intervals, and reading
continues from the nearest one. The package `indexed_gzip` 1.10 does the same, but does not report
a file that is cut off or has flipped bytes: it returns an ordinary end or other data. A cache of
unpacked blocks serves several threads that read at similar positions.
"""

from __future__ import annotations

import collections
import os
import threading
import weakref
import zlib
from dataclasses import dataclass
from typing import Any

from imgpipe.components.example_gen.sources.local_files import cached_until_changed

_BLOCK = 1 << 18  # bytes that are unpacked and cached together
_BLOCKS_KEPT = 128  # 32 MiB, for readers in several threads
_INPUT = 1 << 14  # compressed bytes read at once; a state keeps the unused rest
MAX_STATES = 256  # about 50 KB each; above it every second state is dropped and the spacing doubles
_SPACING = 16  # initial number of blocks between two states, 4 MiB
_GZIP = 31  # zlib's wbits: a gzip header (16) and the largest window (15)
#: Above `BOMB_BYTES` unpacked bytes, a compression ratio over `BOMB_RATIO` is refused. A tar of
#: images has a ratio near 1; the largest possible ratio of deflate is 1032.
BOMB_BYTES, BOMB_RATIO = 1 << 30, 200


class Damaged(OSError):
    """The stream is cut off or damaged."""


class Bomb(OSError):
    """The stream unpacks to far more data than images do."""


@dataclass
class _State:
    """A position in the stream from which unpacking can continue."""

    block: int  # number of the next block
    at: int  # next byte of the compressed file
    pending: bytes  # compressed bytes that were read and not yet used
    decoder: Any
    fresh: bool  # whether nothing of the current gzip member has been read

    def copy(self) -> _State:
        """Copy the state, because `decoder` changes while it unpacks."""
        return _State(self.block, self.at, self.pending, self.decoder.copy(), self.fresh)


class SeekableGzip:
    """A gzip file with random access, which threads can share.

    Args:
        path: Path of a gzip file with one or several members.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        # Several threads may use a reader, so the file is closed when none refers to it any more.
        weakref.finalize(self, os.close, self._file)
        self._lock = threading.Lock()
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._states = [_State(0, 0, b"", zlib.decompressobj(_GZIP), True)]
        self._spacing = _SPACING
        self._live = self._states[0].copy()

    @property
    def states(self) -> int:
        """Number of positions at which unpacking can resume."""
        return len(self._states)

    def pread(self, size: int, offset: int) -> bytes:
        """Read unpacked bytes.

        Args:
            size: Number of bytes.
            offset: First byte, counted in unpacked bytes.

        Returns:
            The bytes; fewer than `size` at the end of the stream.

        Raises:
            Damaged: The stream is cut off or damaged.
            Bomb: The stream unpacks to far more data than images do.
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
        # Reading in order continues where the last block ended, and copies few states.
        before = [state for state in self._states if state.block <= number]
        if not self._live.block <= number or before[-1].block > self._live.block:
            self._live = before[-1].copy()
        live = self._live
        while live.block <= number:
            if live.block >= self._states[-1].block + self._spacing:
                self._keep(live.copy())
            try:
                self._blocks[live.block] = self._next_block(live)
            except BaseException:
                # The next call must not go on from the middle of a block.
                self._live = self._states[0].copy()
                raise
            live.block += 1
            while len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)

    def _keep(self, state: _State) -> None:
        self._states.append(state)
        if len(self._states) > MAX_STATES:
            self._states = self._states[::2]
            self._spacing *= 2

    def _next_block(self, state: _State) -> bytes:
        """Unpack one block, which is shorter only at the end of the stream."""
        parts, missing = [], _BLOCK
        while missing:
            part = self._unpack_some(state, missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        out = state.block * _BLOCK
        if out > BOMB_BYTES and out > BOMB_RATIO * state.at:
            raise Bomb(f"unpacks to more than {BOMB_RATIO} times its size: {out >> 20} MiB so far")
        return b"".join(parts)

    def _unpack_some(self, state: _State, limit: int) -> bytes:
        """Unpack 1 to `limit` bytes, or none at the end of the stream."""
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
            if state.decoder.eof:  # another member may follow (RFC 1952, 2.2)
                state.pending = state.decoder.unused_data
                state.decoder, state.fresh = zlib.decompressobj(_GZIP), True
            if data:
                return bytes(data)
            if ended and not state.fresh:
                raise Damaged(f"the gzip stream is cut off at byte {state.at:,}")


@cached_until_changed(4)
def shared(path: str) -> SeekableGzip:
    """Return the reader of a file that this process shares, or a new one for a changed file."""
    return SeekableGzip(path)
