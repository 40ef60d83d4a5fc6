"""Describes the networks that a search has tried, for people.

A row of the search has the keys of `pipeline.records.run.Tried`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Why a network was not trained to its end, by the word in its row.
FAILURES: Final = {
    "diverged": "diverged",
    "memory": "memory ran out",
    "disk": "the disk was full",
}


def by_folds(tried: Mapping[str, Any]) -> bool:
    """Return whether the network of a row was judged by folds, and not on the validation split."""
    return bool(tried.get("judged_by") == "folds")


def line(tried: Mapping[str, Any]) -> str:
    """Describe in one line what a row has tried, what it gained, and how long it took."""
    seconds, kept = f"{tried['seconds']:.0f} s", "kept" if tried["kept"] else "not kept"
    if tried["accuracy"] is None:
        return f"{tried['what']}: {FAILURES[tried['failure']]}, {seconds}, {kept}"
    where = "cross-validation" if by_folds(tried) else "validation"
    accuracy = f"{where} accuracy {tried['accuracy']:.3f}"
    if tried["gain"] is None:
        return f"{tried['what']}: {accuracy}, {seconds}"
    gain = f"{tried['gain']:+.3f}, standard error {tried['standard_error']:.3f}"
    return f"{tried['what']}: {accuracy} ({gain}), {seconds}, {kept}"
