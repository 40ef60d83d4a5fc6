"""Trees of files by short patterns, and what a scan of them has."""

import collections
import re

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.settings.data import DataSettings


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


#: What a file begins with that is an image, though not a whole one.
IMAGE = b"\xff\xd8\xff\xe0"
_TEXTS = re.compile(r"README|LICENSE|CITATION|MD5SUMS|Makefile")


def content(path):
    """Return the content of a file that is an image if its name does not say something else."""
    is_image = file_names.kind_by_ending(path) in (None, "image", "camera_raw")
    return IMAGE + path.encode() if is_image and not _TEXTS.search(path) else path.encode()


def fill(folder, *trees):
    """Write files whose content ends with their path, and return the folder; a plus is a space."""
    for path in paths(*" ".join(trees).split()):
        file = folder / path.replace("+", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(path))
    return str(folder)


def counted(scan):
    return dict(collections.Counter(f"{item.split or ''}:{item.label}" for item in scan.items))


def noted(scan):
    return [(note["reason"], one["path"]) for note in scan.notes for one in note["examples"]]


def details(scan, reason=None):
    """Return what the notes of a scan, or those with one reason, say of each path."""
    notes = [note for note in scan.notes if reason in (None, note["reason"])]
    return {one["path"]: one["detail"] for note in notes for one in note["examples"]}


def remedies(scan, reason):
    [note] = [note for note in scan.notes if note["reason"] == reason]
    return note["remedies"]


def problems(spec, options=None):
    """Return why each item of a source cannot be read, or "" where it can: {path: error}."""
    source = open_source(str(spec), options or DataSettings())
    scan = source.scan()
    found = {}
    for item in scan.items:
        try:
            source.read(item)
            found[item.path] = ""
        except OSError as error:
            found[item.path] = error.strerror or str(error)
        assert bool(item.sha256) == (found[item.path] == "")
    return found
