"""What weights have learned from, so that they judge none of it.

An answer that judges is given by weights that have seen neither the image nor another one of its
family. This is not left to the order in which networks are trained: the images that a training has
learned from are noted by the content of the weights that it has changed. Whoever begins with these
weights, from wherever they were copied, has learned from these images, too.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from imgpipe.models import names
from imgpipe.models.arrays import Array, Flags, Names
from imgpipe.models.files import stored_arrays

if TYPE_CHECKING:
    import keras

#: What the weights of this process have learned from, by the digest of each array.
_OF_WEIGHTS: Final[dict[bytes, Learned]] = {}


@dataclass(frozen=True)
class Learned:
    """The images that something has learned from.

    Attributes:
        images: Content hashes of the images and names of their families, sorted, bytes [n]. Each is
            there once: a family may be named by the hash of one of its images.
    """

    images: Names

    @classmethod
    def of(cls, hashes: Names, families: Names) -> Learned:
        """Return the images of some rows, each with its family; b"" is none."""
        every = np.unique(np.concatenate([hashes, families]))
        return cls(every[every != b""])

    @classmethod
    def joined(cls, parts: Sequence[Learned]) -> Learned:
        """Return the images of all parts."""
        none = np.empty(0, np.bytes_)
        return cls(np.unique(np.concatenate([none, *(part.images for part in parts)])))

    def knows(self, hashes: Names, families: Names) -> Flags:
        """Return whether each image, or another one of its family, has been learned from, [n]."""
        return np.isin(hashes, self.images) | np.isin(families, self.images)

    def require_unseen(self, hashes: Names, families: Names, what: str) -> None:
        """Refuse answers that judge, of weights that have learned from the images or families.

        Raises:
            RuntimeError: They have, which is a defect of the program.
        """
        seen = int(self.knows(hashes, families).sum())
        if seen:
            raise RuntimeError(
                f"{what}: {seen:,} of the {len(hashes):,} images that judge, or others of their "
                "families, are among those that the weights have learned from, so that the "
                "accuracy would be too high. This is a defect of imgpipe"
            )

    @classmethod
    def read(cls, directory: str) -> Learned | None:
        """Read what a SavedModel has learned from; None for one that does not say it.

        A ResourceError says that the file is damaged.
        """
        holds = "the hashes of the images from which the model has learned"
        stored = stored_arrays.read(directory, names.LEARNED_FILE, holds)
        return None if stored is None else cls(**stored)

    def write(self, directory: str) -> None:
        """Write the images beside a SavedModel."""
        stored_arrays.write(directory, names.LEARNED_FILE, vars(self))


def of_weights(weights: Iterable[Array]) -> Learned:
    """Return what weights have learned from; nothing is known of published or random ones."""
    return _of(_digests(weights))


def note(weights: Iterable[Array], learned: Learned) -> None:
    """Note what weights have learned from."""
    _OF_WEIGHTS.update(dict.fromkeys(_digests(weights), learned))


def forget() -> None:
    """Forget all weights, whose run has ended."""
    _OF_WEIGHTS.clear()


@contextlib.contextmanager
def learning(model: keras.Model, images: Learned) -> Iterator[None]:
    """Note what the weights that change in the block learn from: these images, and those before."""
    before = _digests(model.get_weights())
    learned = Learned.joined([_of(before), images])
    try:
        yield
    finally:
        _OF_WEIGHTS.update(dict.fromkeys(_digests(model.get_weights()) - before, learned))


def _of(digests: set[bytes]) -> Learned:
    noted = {id(each): each for each in map(_OF_WEIGHTS.get, digests) if each is not None}
    return Learned.joined([*noted.values()])


def _digests(weights: Iterable[Array]) -> set[bytes]:
    """Return the digests of arrays whose values differ; others, such as zeros, tell nothing."""
    digests = set()
    for array in map(np.ascontiguousarray, weights):
        if array.size and (array != array.flat[0]).any():
            digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
            digests.add(digest.digest())
    return digests
