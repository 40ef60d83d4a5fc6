"""Candidates: the parts of file names that may be families, with what pictures say of them.

Each word, each number and each beginning of the names divides the files into groups. No word and no
program is known here.
"""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgpipe.components.common.formatting import plural
from imgpipe.components.image_filter.placement.likeness import Likeness, Pictures
from imgpipe.models.arrays import Indices

#: Shares of pairs in which the image of the same group must be more alike; the second one for
#: numbers that begin alike. See docs/benchmarks.md, "Families".
ALIKE = 0.6
_ALIKE_NUMBERS = 0.75
_LARGE = 0.2  # share of its class from which a group is a condition, or too large for three splits
#: Images with names of one form that are looked at on their own: their number, and share of all.
_FEWEST = 20
_SHARE = 0.05
_MOST_PARTS = 16  # of a name, from its beginning and from its end
_MOST_RUNS = 4  # of letters or digits in a word, as in patient12slide3; a hash has more
_WORD = re.compile(r"[^\W_]+")
_RUN = re.compile(r"\d+|[^\W\d_]+")
_CHARACTER = re.compile(r"\d|[^\W\d_]+")  # each digit by itself
_Span = tuple[int, int]


@dataclass
class NamePart:
    """A part of the names of m files, which divides them into groups.

    Attributes:
        names: The names.
        spans: Where the part stands in each of them.
        groups: Number of the group of each, in the order of the groups' names, [m].
        in_number: Whether the part ends inside of a number.
        across: Whether the images of each group are of different classes.
        is_condition: Whether each group is a large part of every class, such as a stain or a view.
        likeness: How much images of a group are alike.
    """

    names: Sequence[str]
    spans: Sequence[_Span]
    groups: Indices
    in_number: bool
    across: bool
    is_condition: bool
    likeness: Likeness = field(default_factory=Likeness)

    @property
    def least(self) -> float:
        """The share of pairs from which groups are alike enough for families."""
        return _ALIKE_NUMBERS if self.in_number else ALIKE

    def holds(self, likeness: Likeness, chance: float) -> bool:
        """Whether the groups are alike enough for families, by more than chance."""
        return likeness.reaches(self.least, chance, self.is_condition)

    @functools.cached_property
    def titles(self) -> dict[int, str]:
        """The part by group, with what all names of the group have around it, and with stars."""
        around: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
        for group, name, (start, end) in zip(
            self.groups.tolist(), self.names, self.spans, strict=True
        ):
            around[group].append(
                (name[start - 1 :: -1] if start else "", name[start:end], name[end:])
            )
        titles = {}
        for group, texts in around.items():
            before, (part, *_), after = zip(*texts, strict=True)
            left = "".join(common(before))
            title = f"{left[::-1]}{part}{''.join(common(after))}".strip("-_. ")
            star = "*" if any(text != left for text in before) else ""
            titles[group] = f"{star}{title}*"
        return titles

    @property
    def largest(self) -> str:
        """The name of the largest group, with its size."""
        [(group, count)] = Counter(self.groups.tolist()).most_common(1)
        return f"{self.titles[group]}: {plural(count, 'image')}"

    @functools.cached_property
    def pattern(self) -> str:
        """A regular expression of the part, as it stands in most of the names."""
        patterns = (
            self._pattern(name, *span)
            for name, span in zip(self.names, self.spans, strict=True)
            if span != (0, 0)
        )
        return Counter(patterns).most_common(1)[0][0]

    def _pattern(self, name: str, start: int, end: int) -> str:
        words = [word.span() for word in _WORD.finditer(name)]
        cuts_a_word = any(first < cut < last for first, last in words for cut in (start, end))
        kind = _RUN if cuts_a_word else _WORD
        before, part = (_general(text, kind) for text in (name[:start], name[start:end]))
        rest = re.match(r"\d+", name[end:]) if self.in_number else None
        after = rf"(?=\d{{{len(rest.group())}}}(?!\d))" if rest else ""
        to_end = "[^/]*" + "/[^/]*" * name[end:].count("/") + "$"
        return rf"(?:^|/){before}({part}{after}){to_end}"

    @property
    def command(self) -> str:
        """The setting that makes the groups those of the source."""
        return f"--set {shlex.quote(f'data.group_pattern={self.pattern}')}"


def common(texts: Sequence[Sequence[str]]) -> list[str]:
    """Return what all texts, or all lists of folders, begin with."""
    same = itertools.takewhile(lambda signs: len({*signs}) == 1, zip(*texts, strict=False))
    return [signs[0] for signs in same]


def _general(text: str, kind: re.Pattern[str]) -> str:
    """Return a regular expression of texts with other parts of some kind in the same places."""
    pattern = ""
    last = 0
    for start, end in _divided(text, kind):
        part = text[start:end]
        run = r"\d+" if part.isdigit() else r"[^\W\d_]+"
        is_run = kind is _RUN and _RUN.fullmatch(part)
        pattern += re.escape(text[last:start]) + (run if is_run else _WORD.pattern)
        last = end
    return pattern + re.escape(text[last:])


def forms(names: Sequence[str]) -> Iterator[Indices]:
    """Yield the places of names of one form, such as word_number, of several; then of all names."""
    forms: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        form = _WORD.sub(lambda word: "0" if re.search(r"\d", word.group()) else "w", name)
        forms[form].append(place)
    for places in forms.values():
        if max(_FEWEST, _SHARE * len(names)) <= len(places) < len(names):
            yield np.array(places)
    yield np.arange(len(names))


def candidates_of(
    pictures: Pictures, images: Indices, labels: Indices, names: Sequence[str]
) -> list[NamePart]:
    """Return a candidate for each division of the images of a class, with what pictures say of it.

    `images` are those with these names, and `labels` the classes of all, [n]. Of several that
    divide each class alike, it is the one that joins most images of several.
    """
    seen: dict[bytes, NamePart] = {}
    class_sizes = np.bincount(labels)
    labels = labels[images]
    for is_beginning, spans in _parts(names):
        texts = [name[start:end] for name, (start, end) in zip(names, spans, strict=True)]
        texts = [text or f"\0{place}" for place, text in enumerate(texts)]  # like no other
        number = {text: place for place, text in enumerate(sorted({*texts}))}
        groups = np.array([number[text] for text in texts])
        _, first, inverse, sizes = np.unique(
            labels * len(names) + groups, return_index=True, return_inverse=True, return_counts=True
        )
        cuts = {*_cuts(names, spans)} if is_beginning else set()
        in_number = (True, True) in cuts
        is_large = sizes > _LARGE * np.bincount(labels)[labels[first]]
        across = sizes.max() == 1  # such as persons with an image of each class
        # What ends inside of a number here and beside one there, as in S1 and S10, is no part.
        if len(cuts) > 1 or (in_number and (across or is_large.any())):
            continue
        is_of_all = len(sizes) == len(number) * np.count_nonzero(class_sizes)
        is_wide = bool((sizes > _LARGE * class_sizes[labels[first]]).all())
        is_condition = len(number) > 1 and is_of_all and is_wide
        division = (groups if across else first[inverse]).tobytes()
        if division not in seen or groups.max() < seen[division].groups.max():
            seen[division] = NamePart(names, spans, groups, in_number, across, is_condition)
    for each in seen.values():
        each.likeness = pictures.likeness(
            images,
            each.groups,
            is_near=each.in_number,
            across=each.across,
            near_share=each.least,
        )
    return [*seen.values()]


def _cuts(names: Sequence[str], spans: Sequence[_Span]) -> Iterator[tuple[bool, bool]]:
    """Yield whether digits stand before and after the end of each part, but of one of letters."""
    for name, (_, end) in zip(names, spans, strict=True):
        before, after = name[end - 1 : end], name[end : end + 1]
        if end and (before.isdigit() or after.isalnum()):
            yield before.isdigit(), after.isdigit()


def _parts(names: Sequence[str]) -> Iterator[tuple[bool, Sequence[_Span]]]:
    """Yield whether a part is a beginning, or else a word or a number, and where it is in names.

    A beginning ends in the same word of all names, counted from their beginning or their end.
    """
    words, runs = ([[*_divided(name, kind)] for name in names] for kind in (_WORD, _RUN))
    for at in range(min(_MOST_PARTS, max(map(len, runs)))):
        for place, parts in itertools.product((at, -1 - at), (words, runs)):
            yield False, [own[place] if len(own) > at else (0, 0) for own in parts]
    for from_end in (False, True):
        ends = [[*_ends(name)][:: -1 if from_end else 1] for name in names]
        longest = [max(map(len, of_word)) for of_word in itertools.zip_longest(*ends, fillvalue=())]
        cuts = ((at, count) for at, most in enumerate(longest) for count in range(1, most))
        for at, count in itertools.islice(cuts, _MOST_PARTS):
            of_word = [own[at] if len(own) > at else [0] for own in ends]
            rest = slice(-count) if from_end else slice(count + 1)
            yield True, [(0, (own[rest] or own[:1])[-1]) for own in of_word]


def _ends(name: str) -> Iterator[list[int]]:
    """Yield where each word of a name begins, and where its characters end; a hash is one."""
    for word in _WORD.finditer(name):
        characters = _divided(word.group(), _CHARACTER)
        yield [word.start(), *(word.start() + end for _, end in characters)]


def _divided(name: str, kind: re.Pattern[str]) -> Iterator[_Span]:
    """Yield where the words of a name stand, or their parts of some kind; a hash is one part."""
    for word in _WORD.finditer(name):
        if len(_RUN.findall(word.group())) <= _MOST_RUNS:
            yield from (part.span() for part in kind.finditer(name, *word.span()))
        else:
            yield word.span()
