"""Trees of files by short patterns, and what a scan of them has."""

import collections
import re


def paths(*patterns):
    """Return the paths that patterns such as `{cat,dog}/{1,2}.jpg` stand for."""
    found = []
    for pattern in patterns:
        choice = re.search(r"\{([^{}]*)\}", pattern)
        if choice is None:
            found.append(pattern)
            continue
        for name in choice[1].split(","):
            found += paths(pattern[: choice.start()] + name + pattern[choice.end() :])
    return found


def fill(folder, *trees):
    """Write files whose content is their path, and return the folder; a plus is a space."""
    for path in paths(*" ".join(trees).split()):
        file = folder / path.replace("+", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    return str(folder)


def counted(scan):
    """Return the numbers of images of a scan by split and class."""
    return dict(collections.Counter(f"{item.split or ''}:{item.label}" for item in scan.items))


def noted(scan):
    """Return reason and path of each example in the notes of a scan."""
    return [(note["reason"], one["path"]) for note in scan.notes for one in note["examples"]]


def details(scan, reason=None):
    """Return what the notes of a scan, or those with one reason, say of each path."""
    notes = [note for note in scan.notes if reason in (None, note["reason"])]
    return {one["path"]: one["detail"] for note in notes for one in note["examples"]}


def remedies(scan, reason):
    """Return the remedies of the note with this reason."""
    [note] = [note for note in scan.notes if note["reason"] == reason]
    return note["remedies"]
