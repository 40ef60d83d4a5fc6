"""What a source says of files, folders and columns that it does not read, so that nothing is lost.

A source notes each of them on its own; `gathered` makes one finding of all notes with one reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_kinds import MAY_STAND_FOR, NOUNS
from imgpipe.components.common.image_file.file_names import Kind
from imgpipe.models.finding import Fate, Finding, in_files, make_finding, usual_ways

#: Reasons for which a file is left out: it is found, but neither kept nor rejected. How its path is
#: called.
LEFT_OUT: Mapping[str, str] = {
    "skipped": "skipped",
    "unlabelled_folder": "folder",
    "unlabelled_file": "file",
    "hidden_file": "file",
    **{f"{kind}_file": "file" for kind in NOUNS},
}
#: What else nothing used.
_UNUSED = {"folder_without_images": "folder", "unused_column": "column", "unused_split": "split"}
#: The reasons of files that are no images, by their kind: those that may be lost ones, because they
#: stand in a class and belong to no image in it, and all others.
NO_IMAGES: Mapping[Kind, str] = {kind: f"{kind}_file" for kind in NOUNS}
BESIDE: Mapping[Kind, str] = {kind: f"{kind}_beside" for kind in NOUNS}
#: Reasons of which the number says enough, in the singular and the plural.
_COUNTED = {
    **{NO_IMAGES[kind]: nouns for kind, nouns in NOUNS.items()},
    **{
        BESIDE[kind]: (f"{single} beside images", f"{several} beside images")
        for kind, (single, several) in NOUNS.items()
    },
    "unlabelled_file": ("image whose name has no label", "images whose names have no label"),
    "hidden_file": ("file whose name begins with a dot", "files whose names begin with a dot"),
}
_TITLES = {
    **{reason: nouns[0] for reason, nouns in _COUNTED.items()},
    "unlabelled_file": "no label in its name",
    "unlabelled_folder": "folder without a class of train",
    "unread_list": "list that is not read",
    "unused_column": "column that nothing reads",
    "unused_split": "split that nothing reads",
    "single_folder": "folder around all others",
    "inner_folder": "in folders of class folders",
    "no_group": "no group in its name",
    "doubtful_label": "label that may be several",
    "skipped": "left out by data.skip",
}
#: Reasons of files that somebody has to know of, with what they may be.
_MAY_STAND_FOR = {NO_IMAGES[kind]: what for kind, (what, _) in MAY_STAND_FOR.items()}
_NAMED = 4  # folders and columns that the line of what is not used names
_EXAMPLES = 20  # of each finding


def noted(
    reason: str, path: str, detail: str = "", count: int = 1, remedies: Sequence[str] = ()
) -> Finding:
    """Return the finding about one file, folder or column.

    Args:
        reason: The reason, such as `hidden`, `symlink`, `unreadable_file` or `unused_column`.
        path: Its path or name.
        detail: What was noticed; "" if the reason says all.
        count: Number of files for which it stands.
        remedies: What to do, each a way of its own.
    """
    is_unused = reason in (*LEFT_OUT, *_UNUSED, *_COUNTED)
    fate: Fate = "not_used" if is_unused else "noted"
    title = _TITLES.get(reason, "")
    decides = reason in _MAY_STAND_FOR
    about = make_finding(reason, _unused(reason, path, count), remedies, title, decides, count)
    return in_files(fate, about, [{"path": path, "detail": detail, "image_hash": ""}])


def _unused(reason: str, path: str, count: int) -> str:
    """Name what is not used, as in "folder masks (400 images)"; "" for other reasons."""
    if reason in _COUNTED:
        return plural(count, *_COUNTED[reason])
    if reason in LEFT_OUT:
        what = plural(count, "file" if reason == "skipped" else "image")
        return f"{LEFT_OUT[reason]} {path} ({what})"
    if reason == "folder_without_images":
        return f"folder {path} ({plural(count, 'file')}, no image)"
    return f"{_UNUSED[reason]} {path}" if reason in _UNUSED else ""


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
    more = [f"{len(sentences) - _NAMED} more"] if len(sentences) > _NAMED else []
    named = ", ".join([*sentences[:_NAMED], *more])
    title = notes[0]["title"]
    if reason in _COUNTED:
        single, several = _COUNTED[reason]
        named = plural(count, single, several)
        title = several if title == single and count > 1 else title
    if reason in _MAY_STAND_FOR:
        paths = [note["examples"][0]["path"] for note in notes]
        named += f" ({join_names(paths, _NAMED)}), {_MAY_STAND_FOR[reason]}"
    return {
        **notes[0],
        "title": title,
        "sentence": named,
        "remedies": usual_ways(note["remedies"] for note in notes),
        "count": count,
        "examples": [example for note in notes[:_EXAMPLES] for example in note["examples"]],
    }
