"""Labels that are a part of the paths of the files, which `data.label_pattern` finds."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.models.errors import ConfigError

#: The name of a file up to its number, as in cat.12.jpg and Abyssinian_12.jpg.
BEFORE_NUMBER = r"([^/\d]*?[^/\d\W_])[-_. (]*\d+[^/\d]*\.\w+$"
#: The name behind its number, as in 12_frog.png.
_BEHIND_NUMBER = r"(?:^|/)\d+[-_. ]+([^/\d\W][^/\d]*)\.\w+$"
_LEAST = 3  # files that each label of a guessed pattern needs at least


def pattern_in(items: Iterable[Item]) -> str:
    """Return the pattern of labels that most files have in their names; "" for none."""
    paths = [item.path for item in items if file_names.claims_to_be_image(item.path)]
    for pattern in (BEFORE_NUMBER, _BEHIND_NUMBER):
        found = [match[1] for match in map(re.compile(pattern).search, paths) if match]
        labels = collections.Counter(found)
        several = len(labels) > 1 and 2 * len(found) > len(paths)
        if several and min(labels.values()) >= _LEAST:
            return pattern
    return ""


def labelled(items: Iterable[Item], pattern: str) -> list[Item]:
    """Return the items with the labels that a pattern finds in their paths, None for none.

    Raises:
        ConfigError: The pattern is no regular expression with a group.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"data.label_pattern {pattern!r} is not a regular expression: {error}"
        ) from None
    if not expression.groups:
        raise ConfigError(
            f"data.label_pattern {pattern!r} has no group; put round brackets around the part of "
            f"the path that is the label, as in {BEFORE_NUMBER!r}"
        )
    matches = ((item, expression.search(item.path)) for item in items)
    return [item.placed((match and match[1]) or None, item.split) for item, match in matches]
