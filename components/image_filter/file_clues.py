"""How well the files tell the classes apart, whatever the images show.

If the images of each class come from a source of their own, such as one hospital or one camera, a
model may learn the source: its accuracy is high, and it fails on images from elsewhere. Such files
often differ in format, size or quality too. So a small decision tree answers for the kept images of
train and validation by these properties alone, each by a tree that was trained on other folds, and
images of one family are in one fold as for the head. If it tells nearly all images apart, or those
of a class from all others, `sentence` says so; nothing is refused.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.image_row import ImageRow
from imgpipe.models import names
from imgpipe.models.arrays import Array, Floats, Integers
from imgpipe.models.features import folds
from imgpipe.models.head.certainty import interval

#: Images that are asked about at most. They give the accuracy within 1.5 points and take seconds.
MOST_IMAGES: Final = 5_000
#: Images of a leaf of a tree at least; fewer would be an accident.
_LEAF: Final = 5
_LEAVES: Final = 8  # of a tree for each class at most, as for the classes of eight cameras
#: Images are told apart if the share of right answers is at least so far on the way to 1 from what
#: naming the most frequent class reaches, and the lower end of its interval at least a third.
_NEAR: Final = 0.9
#: The way of that lower end. Public sets of one source are far below: see
#: docs/benchmarks.md, "Constants of the code".
_FAR: Final = 1 / 3
_NAMED: Final = 3  # classes that a sentence names

#: What to do where `sentence` says something.
REMEDY: Final = (
    "if each class comes from a source of its own, a model may learn the source and not what the "
    "images show: take images of all classes from the same sources, and test the model on images "
    "from another source before you trust it"
)


#: The properties, by the words for them: the values from which a tree reads each. The size in bytes
#: is none, because it is what the image shows: drawings and plain backgrounds are packed smaller.
_PROPERTIES: Mapping[str, Callable[[ImageRow], tuple[float | str, ...]]] = {
    "format": lambda file: (file.format,),
    "colour mode": lambda file: (file.mode, file.is_grey),
    "size": lambda file: (file.width, file.height, file.width / max(file.height, 1)),
    "JPEG quality": lambda file: (file.jpeg_tables, file.subsampling),
    "camera": lambda file: (file.camera,),
}


class FileClues(TypedDict):
    """How well properties of the files tell the classes apart."""

    images: Annotated[int, "Images of train and validation that were asked about."]
    right: Annotated[int, "Images whose class the properties tell, in cross-validation."]
    classes: Annotated[
        list[str],
        "The classes that are told from all others, where not all classes are told apart.",
    ]
    properties: Annotated[
        list[str],
        "The properties each of which tells this alone, or those that do so together; empty where "
        "the files tell nothing.",
    ]


def clues_of(kept: Iterable[ImageRow]) -> FileClues | None:
    """Ask how well the properties of files tell the classes apart; None for too few images.

    Those of test are not asked about, because no decision uses test. Of many others, those with the
    smallest hashes are, which are as good as random numbers.
    """
    asked = (row for row in kept if row.split != names.TEST)
    files = heapq.nsmallest(MOST_IMAGES, asked, key=lambda row: (row.image_hash, row.path))
    classes, labels = np.unique(np.array([file.label for file in files]), return_inverse=True)
    if len(classes) < 2 or len(files) < 2 * folds.FOLDS:
        return None
    asked_files = _AskedFiles(files, labels)
    predicted = asked_files.answers(labels, _PROPERTIES)
    told: list[int] = []
    properties: list[str] = []
    is_every_class = asked_files.tell(labels, predicted)
    if not is_every_class:
        numbers = range(len(classes))
        told = [n for n in numbers if asked_files.tell(labels == n, predicted == n)]
    if is_every_class or told:
        others_are_one = np.where(np.isin(labels, told), labels, len(classes))
        properties = _telling(asked_files, labels if is_every_class else others_are_one)
    return {
        "images": len(files),
        "right": int((predicted == labels).sum()),
        "classes": classes[told].tolist(),
        "properties": properties,
    }


class _AskedFiles:
    """The files, sorted by hash, with their folds, which are drawn by their labels [n]."""

    def __init__(self, files: Sequence[ImageRow], labels: Integers) -> None:
        self._families = np.array([file.family for file in files], np.bytes_)
        self._fold = folds.assign(labels, self._families, folds.FOLDS)
        self._columns = {name: _columns(files, read) for name, read in _PROPERTIES.items()}

    def answers(self, labels: Integers, properties: Iterable[str]) -> Integers:
        """Return the label of each file by some properties, by a tree that has not seen it, [n]."""
        from sklearn.tree import DecisionTreeClassifier

        values = np.concatenate([self._columns[name] for name in properties], axis=1)
        leaves = _LEAVES * (int(labels.max()) + 1)
        predicted = np.full(len(labels), -1)
        for number in np.unique(self._fold):
            held_out = self._fold == number
            if not held_out.all():
                tree = DecisionTreeClassifier(
                    min_samples_leaf=_LEAF, max_leaf_nodes=leaves, random_state=0
                )
                tree.fit(values[~held_out], labels[~held_out])
                predicted[held_out] = tree.predict(values[held_out])
        return predicted

    def tell(self, labels: Array, predicted: Array) -> bool:
        """Return whether answers [n] are nearly all right, and surely far better than a guess."""
        right = predicted == labels
        guess = max(Counter(labels.tolist()).values()) / len(labels)
        low, _ = interval(right, self._families)
        share, least = ((value - guess) / (1 - guess) for value in (float(right.mean()), low))
        return share >= _NEAR and least >= _FAR


def _columns(
    files: Sequence[ImageRow], read: Callable[[ImageRow], tuple[float | str, ...]]
) -> Floats:
    """Return the values of a property as numbers, float32 [n, values].

    Texts are numbered by how often they occur, so that a tree separates the usual ones first.
    """
    columns = []
    for values in zip(*map(read, files), strict=True):
        if isinstance(values[0], str):
            usual = sorted(Counter(values).items(), key=lambda entry: (-entry[1], entry[0]))
            number = {text: place for place, (text, _) in enumerate(usual)}
            values = tuple(number[text] for text in values)
        columns.append(np.array(values, np.float32))
    return np.stack(columns, axis=1)


def _telling(files: _AskedFiles, labels: Integers) -> list[str]:
    """Return the properties each of which tells the labels alone, or those that do together."""

    def do_tell(properties: Sequence[str]) -> bool:
        return files.tell(labels, files.answers(labels, properties))

    alone = [name for name in _PROPERTIES if do_tell([name])]
    if alone:
        return alone
    together = list(_PROPERTIES)
    for name in _PROPERTIES:
        others = [other for other in together if other != name]
        if do_tell(others):
            together = others
    return together


def sentence(clues: FileClues | None) -> str:
    """Say which properties of the files tell the classes apart; "" if they do not.

    It is a clause without a full stop, "format and size alone tell 98 % of the images apart".
    """
    if clues is None or not clues["properties"]:
        return ""
    properties = _listed(clues["properties"])
    verb = "tells" if len(clues["properties"]) == 1 else "tell"
    if clues["classes"]:
        more = len(clues["classes"]) - _NAMED
        shown = [*clues["classes"][:_NAMED], *([f"{more:,} more"] if more > 0 else [])]
        noun = "class" if len(clues["classes"]) == 1 else "the classes"
        return f"{properties} alone {verb} {noun} {_listed(shown)} from all others"
    share = math.floor(100 * clues["right"] / clues["images"])
    return f"{properties} alone {verb} {share} % of the images apart"


def _listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
