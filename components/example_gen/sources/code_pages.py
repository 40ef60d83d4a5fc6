"""Code pages of names that programs for Windows write without saying which one it is.

A code page is accepted when all names read in it as usual text: letters of the West in words with
more ASCII letters, letters of Russian, or characters that the standards of China (GB 2312), Japan
(JIS X 0208), Korea (KS X 1001) and Taiwan (Big5) count among the common ones.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

#: Bytes of usual letters by code page, those of the West first.
_WESTERN = {
    "cp850": rb"[\x80-\x9b\x9d\xa0-\xa5\xb5-\xb7\xc6\xc7\xd0-\xd4\xd6-\xd8\xde\xe0-\xe5\xe7-\xed]",
    "cp1252": rb"[\x8a\x8c\x8e\x9a\x9c\x9e\x9f\xc0-\xd6\xd8-\xf6\xf8-\xff]",
    "cp1250": rb"[\x8a\x8c-\x8f\x9a\x9c-\x9f\xa3\xa5\xaa\xaf\xb3\xb9\xba\xbc\xbe-\xd6\xd8-\xf6"
    rb"\xf8-\xfe]",
}
_RUSSIAN = {
    "cp866": rb"[\x80-\xaf\xe0-\xf1]",
    "cp1251": rb"[\xa8\xb8\xc0-\xff]",
}
_ASIAN = {
    "gbk": rb"[\xb0-\xd7][\xa1-\xfe]",
    "big5": rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]",
    "cp949": rb"[\xb0-\xc8][\xa1-\xfe]",
    "cp932": rb"(?:[\x82\x83\x89-\x97][\x40-\xfc]|\x88[\x9f-\xfc]|\x98[\x40-\x72]"
    rb"|\x81[\x45\x58\x5b])",
}


def code_pages(names: Sequence[bytes]) -> dict[str, list[str]]:
    """Return the names in each code page in which all of them are usual text.

    Pages that read all names alike count as one. Of those of the West, the first one is that of
    the system, whose letters APPNOTE D.1 prescribes for archives.

    Args:
        names: Different names that are neither ASCII nor UTF-8.
    """
    found: dict[str, list[str]] = {}
    for page, letters in (_WESTERN | _RUSSIAN | _ASIAN).items():
        if page in _WESTERN and "cp850" in found:
            continue
        # Latin letters beside those of other scripts are a sign of a wrong reading. Capitals are
        # none in Asia, as in "T-shirt".
        latin = rb"" if page in _WESTERN else rb"a-z" if page in _ASIAN else rb"A-Za-z"
        run = rb"(?<![%b])(?:%b)++(?![%b])" % (latin, letters, latin) if latin else letters
        if not all(re.fullmatch(rb"(?:[\x00-\x7f]|%b)*+" % run, name) for name in names):
            continue
        texts = [name.decode(page, "replace") for name in names]
        if _is_usual("\n".join(texts), page in _WESTERN) and texts not in found.values():
            found[page] = texts
    return found


def _is_usual(text: str, western: bool) -> bool:
    """Whether names are words of the West with some other letters, or hold several characters."""
    special = sum(not letter.isascii() for letter in text)
    pairs = itertools.pairwise(text)
    if "\ufffd" in text or any(a.islower() and b.isupper() and not b.isascii() for a, b in pairs):
        return False
    plain = sum(letter.isascii() and letter.isalpha() for letter in text)
    return 2 * special <= plain if western else special > 1
