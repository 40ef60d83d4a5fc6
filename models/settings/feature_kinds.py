"""What a head can read of a network, as the setting `model.features` names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AUTO: Final = "auto"  # folds choose
AVERAGE: Final = "average"  # the mean of the last feature map over its positions
FLATTEN: Final = "flatten"  # its values
#: The mean of the last map, and the covariances of the channels of this map and of two lower ones.
COVARIANCE: Final = "covariance"
CLASS_TOKEN: Final = "class_token"  # the class token of a transformer
TOKENS: Final = "tokens"  # the class token, and the mean of the patches

#: All other kinds read covariances: this one, and the names of layers.
WITHOUT_COVARIANCES: Final = (AVERAGE, FLATTEN, CLASS_TOKEN, TOKENS)
#: Number of axes to which the channels of a map are projected before their covariance is taken.
COVARIANCE_AXES: Final = 64

_BLOCKS_OF_TOKENS: Final[Mapping[str, int]] = {CLASS_TOKEN: 0, AVERAGE: 1}
_BLOCKS_OF_MAPS: Final[Mapping[str, int]] = {AVERAGE: 0}


def single_blocks(largest_kind: str) -> Mapping[str, int]:
    """Return the kinds of features that are one of several blocks, which a head may read alone.

    Args:
        largest_kind: What the head reads at most: all blocks.

    Returns:
        The numbers of these blocks, from 0 on, by kind. The first kind is used where no other is
        better.
    """
    return _BLOCKS_OF_TOKENS if largest_kind == TOKENS else _BLOCKS_OF_MAPS


def one_block(largest_kind: str) -> str:
    """Return the kind of features of a head that is to read one block; see `single_blocks`."""
    if largest_kind in (FLATTEN, CLASS_TOKEN):
        return largest_kind
    return next(iter(single_blocks(largest_kind)))
