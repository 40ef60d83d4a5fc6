"""What a source says of files, folders and columns that it does not read, so that nothing is lost.

A source notes each of them on its own; `gathered` makes one finding of all notes with one reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_names import MAY_STAND_FOR, NOUNS
from imgpipe.models.finding import Fate, Finding, in_files, make_finding, usual_ways

#: Reasons for which a file is left out: it is found, but neither kept nor rejected. A file that is
#: no image is, where it stands in a class and belongs to no image in it; others lie beside images.
LEFT_OUT = {
    *("skipped", "unlabelled_folder", "unlabelled_file", "hidden_file"),
    *(f"{kind}_file" for kind in NOUNS),
}
#: Nouns of what nothing used and is only counted.
_COUNTED: Mapping[str, tuple[str, str]] = {
    **{f"{kind}_file": nouns for kind, nouns in NOUNS.items()},
    **{
        f"{kind}_beside": (f"{single} beside images", f"{several} beside images")
        for kind, (single, several) in NOUNS.items()
    },
    "unlabelled_file": ("image whose name has no label", "images whose names have no label"),
    "hidden_file": ("file whose name begins with a dot", "files whose names begin with a dot"),
}
#: Nouns of what nothing used and is named, and of what is counted in it.
_NAMED = {
    "skipped": ("skipped", "file"),
    "unlabelled_folder": ("folder", "image"),
    "folder_without_images": ("folder without images", "file"),
    "unused_column": ("column", ""),
    "unused_split": ("split", ""),
}
#: Reasons of files that somebody has to know of, with what they may be.
_MAY_STAND_FOR = {f"{kind}_file": what for kind, (what, _) in MAY_STAND_FOR.items()}
_SHOWN = 4  # folders and columns that the line of what is not used names
_EXAMPLES = 20  # of each finding


def noted(
    reason: str, path: str, detail: str = "", count: int = 1, remedies: Sequence[str] = ()
) -> Finding:
    """Return the finding about one file, folder or column.

    Args:
        reason: The reason, such as `hidden`, `symlink`, `special_file` or `unused_column`.
        path: Its path or name.
        detail: What was noticed; "" if the reason says all.
        count: Number of files for which it stands.
        remedies: What to do, each a way of its own.
    """
    fate: Fate = "not_used" if reason in _COUNTED or reason in _NAMED else "noted"
    sentence = ""
    if reason in _NAMED:
        noun, inside = _NAMED[reason]
        sentence = f"{noun} {path} ({plural(count, inside)})" if inside else f"{noun} {path}"
    decides = reason in _MAY_STAND_FOR
    about = make_finding(reason, sentence, remedies, decides=decides, count=count)
    return in_files(fate, about, [{"path": path, "detail": detail, "image_hash": ""}])


def gathered(notes: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding for all notes with one reason; equal notes give equal findings."""
    by_path = {_place(note): note for note in notes}
    ordered = [by_path[place] for place in sorted(by_path)]
    groups = itertools.groupby(ordered, key=lambda note: note["reason"])
    return tuple(_of_reason(reason, list(of_reason)) for reason, of_reason in groups)


def _place(note: Finding) -> tuple[str, str, str]:
    [example] = note["examples"]
    return note["reason"], example["path"], example["detail"]


def _of_reason(reason: str, notes: list[Finding]) -> Finding:
    """Return the finding about all files with one reason, whose first ones are examples."""
    count = sum(note["count"] for note in notes)
    sentences = [note["sentence"] for note in notes if note["sentence"]]
    more = [f"{len(sentences) - _SHOWN} more"] if len(sentences) > _SHOWN else []
    sentence = ", ".join([*sentences[:_SHOWN], *more])
    title = notes[0]["title"]
    if reason in _COUNTED:
        sentence = plural(count, *_COUNTED[reason])
        title = _COUNTED[reason][count > 1]
    if reason in _MAY_STAND_FOR:
        paths = [note["examples"][0]["path"] for note in notes]
        sentence += f" ({join_names(paths, _SHOWN)}), {_MAY_STAND_FOR[reason]}"
    return {
        **notes[0],
        "title": title,
        "sentence": sentence,
        "remedies": usual_ways(note["remedies"] for note in notes),
        "count": count,
        "examples": [example for note in notes[:_EXAMPLES] for example in note["examples"]],
    }
