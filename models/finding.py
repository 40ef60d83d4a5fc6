"""The one form of what is said to a person: about images, a run, a search or this machine.

Terminal, pages, JSON, report and verdict read these records, and add no words of their own.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

#: What a finding means for the files that it is about.
Fate = Literal["rejected", "repaired", "warned", "left_out", "not_used", "noted"]

#: Fates of what nothing used.
UNUSED: Final = ("left_out", "not_used")
_WAYS = 2  # most frequent remedies of one reason, whose files may be of several formats


class Example(TypedDict):
    """One of the files, folders or columns of a finding."""

    path: Annotated[str, "Path of the file or folder, or name of the column."]
    detail: Annotated[str, "What was found in it; empty if the title says all."]
    image_hash: Annotated[str, "SHA-256 of the file; empty for what is no image."]


class Finding(TypedDict):
    """Something that a person should know about the images or the run."""

    fate: Annotated[
        Fate,
        "What happens to the files: `rejected` (quarantine), `repaired`, `warned` (kept), "
        "`left_out` (found, neither kept nor rejected), `not_used` (what lies beside images), or "
        "`noted` for what concerns no single file.",
    ]
    reason: Annotated[str, "Its name in settings and files, such as that of the check."]
    title: Annotated[str, "The reason in a few words, as they stand in a list or in a verdict."]
    sentence: Annotated[str, "What was found, without a full stop; empty if the title says all."]
    remedies: Annotated[list[str], "What to do, each a way of its own."]
    decides: Annotated[
        bool,
        "Whether to know it before the verdict is believed: it stands beside the verdict, which is "
        "not `clean` then.",
    ]
    count: Annotated[int, "Number of files, folders or columns; 0 if it is about none of them."]
    examples: Annotated[list[Example], "The first or worst of them."]


def make_finding(
    reason: str,
    sentence: str,
    remedies: Sequence[str] = (),
    title: str = "",
    decides: bool = False,
    count: int = 0,
) -> Finding:
    """Return a finding about no single file; see `Finding` for its parts."""
    return {
        "fate": "noted",
        "reason": reason,
        "title": title or reason.replace("_", " "),
        "sentence": sentence,
        "remedies": list(remedies),
        "decides": decides,
        "count": count,
        "examples": [],
    }


def in_files(fate: Fate, about: Finding, examples: Iterable[Example]) -> Finding:
    """Return a finding about some files, of which there are examples."""
    return {**about, "fate": fate, "examples": list(examples)}


def usual_ways(remedies: Iterable[Sequence[str]]) -> list[str]:
    """Return the ways of the most frequent remedies, whose commands can be copied one by one."""
    usual = collections.Counter(tuple(ways) for ways in remedies if ways).most_common(_WAYS)
    return [way for ways, _ in usual for way in ways]


def said(finding: Finding) -> str:
    """Return a finding as one sentence, with what to do."""
    return "; ".join([finding["sentence"], *finding["remedies"]])
