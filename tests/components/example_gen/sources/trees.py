"""Trees of files by short patterns, and what a listing of them has."""

import collections
import re

from imgpipe.components.common.image_file import file_names
from imgpipe.components.example_gen.sources import read_source


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
    is_image = file_names.is_image(path) or not file_names.ending_of(path)
    return IMAGE + path.encode() if is_image and not _TEXTS.search(path) else path.encode()


def fill(folder, *trees):
    """Write files whose content ends with their path, and return the folder; a plus is a space."""
    for path in paths(*" ".join(trees).split()):
        file = folder / path.replace("+", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(path))
    return str(folder)


def counted(images):
    return dict(collections.Counter(f"{item.split or ''}:{item.label}" for item in images.items))


def noted(images):
    return [(f["reason"], one["path"]) for f in images.findings for one in f["examples"]]


def details(images, reason):
    """Return what the finding with a reason says of each path."""
    found = [finding for finding in images.findings if finding["reason"] == reason]
    return {one["path"]: one["detail"] for finding in found for one in finding["examples"]}


def problems(spec, options=None):
    """Return why each item of a source cannot be read, or "" where it can: {path: error}."""
    images = read_source(str(spec), options).hashed()
    found = {}
    for item in images.items:
        try:
            images.reader.read(item)
            found[item.path] = ""
        except OSError as error:
            found[item.path] = error.strerror or str(error)
        assert bool(item.sha256) == (found[item.path] == "")
    return found
