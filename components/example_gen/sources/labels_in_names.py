"""Labels that are a part of the paths of the files, which `data.label_pattern` finds."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable
from dataclasses import replace

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources.base import Item, Note, Scan, SourceOptions
from imgpipe.components.example_gen.sources.listing import listed
from imgpipe.components.example_gen.sources.split_names import split_of
from imgpipe.models import feature_names as names
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


def labelled(
    where: str, members: Iterable[Item], notes: Iterable[Note], options: SourceOptions
) -> Scan:
    """Set the labels that the pattern finds, and the splits where all folders at the top name one.

    Args:
        where: The source, for messages.
        members: Items whose labels and splits are not set.
        notes: Notes so far.
        options: The pattern, and the least number of classes.

    Raises:
        ConfigError: The pattern is no regular expression with a group, or finds too few labels.
    """
    try:
        expression = re.compile(options.label_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"data.label_pattern {options.label_pattern!r} is not a regular expression: {error}"
        ) from None
    if not expression.groups:
        raise ConfigError(
            f"data.label_pattern {options.label_pattern!r} has no group; put round brackets around "
            f"the part of the path that is the label, as in {BEFORE_NUMBER!r}"
        )
    matches = [(item, expression.search(item.path)) for item in members]
    found = [(item, match[1]) for item, match in matches if match and match[1]]
    splits = {split_of(item.path.partition("/")[0]) for item, _ in found if "/" in item.path}
    given = None not in splits and names.TRAIN in splits and len(splits) > 1
    items = [
        replace(item, label=label, split=split_of(item.path.partition("/")[0]) if given else None)
        for item, label in found
    ]
    left_out = [item.path for item, match in matches if not match or not match[1]]
    expected = f"expected labels that data.label_pattern finds. Received: {options.label_pattern}"
    more = [
        Note("unlabelled_file", path, "no label in its name")
        if file_names.claims_to_be_image(path)
        else Note("other_files", path, "is no image by its name")
        for path in left_out
    ]
    return listed(where, items, expected, options.least_classes, [*notes, *more])
