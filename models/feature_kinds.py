"""What a head can read of a network, as the setting `model.features` names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AUTO: Final = "auto"  # folds choose
AVERAGE: Final = "average"  # the mean of the last feature map over its positions
FLATTEN: Final = "flatten"  # its values
LEVELS: Final = "levels"  # mean and standard deviation of the last map and of two lower ones
CLASS_TOKEN: Final = "class_token"  # the class token of a transformer
TOKENS: Final = "tokens"  # the class token, and the mean of the patches

_OF_TOKENS: Final[Mapping[str, tuple[int, ...]]] = {CLASS_TOKEN: (0,), AVERAGE: (1,)}
_OF_MAPS: Final[Mapping[str, tuple[int, ...]]] = {AVERAGE: (0,)}


def parts_of(widest: str) -> Mapping[str, tuple[int, ...]]:
    """Return what a head may read instead of everything.

    Args:
        widest: What it reads at most.

    Returns:
        Kinds of features with the numbers of the blocks that they are. The first kind is used where
        no other is better.
    """
    return _OF_TOKENS if widest == TOKENS else _OF_MAPS


def one_block(widest: str) -> str:
    """Return what a head reads that is to read one block of features; see `parts_of`."""
    return widest if widest in (FLATTEN, CLASS_TOKEN) else next(iter(parts_of(widest)))
