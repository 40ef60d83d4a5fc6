"""Labels that are a part of the paths of the files, which `data.label_pattern` finds."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.sources.readings import Reading, classes_of

#: The name of a file up to its number, as in cat.12.jpg and Abyssinian_12.jpg.
_BEFORE_NUMBER = r"([^/\d]*?[^/\d\W_])[-_. (]*\d+[^/\d]*\.\w+$"
#: The name behind its number, as in 12_frog.png.
_BEHIND_NUMBER = r"(?:^|/)\d+[-_. ]+([^/\d\W][^/\d]*)\.\w+$"
_LEAST = 3  # files that each label of a guessed pattern needs at least


def readings(items: Iterable[Item]) -> list[Reading]:
    """Return the reading by the labels that most images have in their names; none without them."""
    images = [item for item in items if file_names.claims_to_be_image(item.path)]
    for pattern in (_BEFORE_NUMBER, _BEHIND_NUMBER):
        labels = [item.label for item in labelled(images, pattern) if item.label]
        counts = collections.Counter(labels)
        if len(counts) > 1 and 2 * len(labels) > len(images) and min(counts.values()) >= _LEAST:
            return [Reading(classes_of(counts, len(labels)), {"label_pattern": pattern})]
    return []


def labelled(items: Sequence[Item], pattern: str) -> list[Item]:
    """Return the items with the labels that a pattern finds in their paths, None for none."""
    expression = re.compile(pattern)
    matches = ((item, expression.search(item.path)) for item in items)
    return [item.placed((match and match[1]) or None, item.split) for item, match in matches]
