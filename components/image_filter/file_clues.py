"""How well the files tell the classes apart, whatever the images show.

If the images of each class come from a source of their own, such as one hospital or one camera, a
model may learn the source: its accuracy is high, and it fails on images from elsewhere. Such files
often differ in format, size or quality too. So a small decision tree answers for the kept images of
train and validation by these properties alone, each by a tree that was trained on other folds, and
images of one family are in one fold as for the head. If its accuracy comes near that of a model and
is far above what naming the most frequent class reaches, `sentence` says so; nothing is refused.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.models.features import folds
from imgpipe.models.head.certainty import interval
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.arrays import Array, Flags, Floats, Integers

#: Images that are asked about at most. They give the accuracy within 1.5 points and take seconds.
MOST_IMAGES: Final = 5_000
#: Images of a leaf of a tree at least; fewer would be an accident.
_LEAF: Final = 5
_LEAVES: Final = 8  # of a tree for each class at most, as for the classes of eight cameras
#: What the files tell is near to what the model knows if it is at least this share of it. Both are
#: measured from what naming the most frequent class reaches.
_NEAR: Final = 0.9
#: It is far above that if the lower end of its interval is at least this share of the way from
#: there to 1. Public sets of one source are far below: see docs/benchmarks.md, "Constants of the
#: code".
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


class ToldClass(TypedDict):
    """A class that the files tell from all others."""

    name: Annotated[str, "The class."]
    images: Annotated[int, "Images of the class, and those that were taken for it."]
    right: Annotated[int, "Images of the class that were found."]


class FileClues(TypedDict):
    """How well properties of the files tell the classes apart."""

    images: Annotated[int, "Images of train and validation that were asked about."]
    right: Annotated[int, "Images whose class the properties tell, in cross-validation."]
    commonest: Annotated[float, "Share of the most frequent class."]
    ci95: Annotated[
        list[float],
        "Wilson interval of the share of right answers, 95 %, for which the images of a family "
        "count once.",
    ]
    classes: Annotated[
        list[ToldClass],
        "The classes that are told from all others, where not all classes are told apart.",
    ]
    properties: Annotated[
        list[str],
        "The properties each of which tells about as much as all of them, or the few that do so "
        "together; empty where the properties hardly tell more than a guess.",
    ]


def clues_of(kept: Iterable[ImageRow]) -> FileClues | None:
    """Ask how well the properties of files tell the classes apart.

    Args:
        kept: The kept images. Those of test are not asked about, because no decision uses test; of
            many others, those with the smallest hashes are, which are as good as random numbers.

    Returns:
        What was found; None with one class, or too few images for folds.
    """
    asked = (row for row in kept if row.split != names.TEST)
    files = heapq.nsmallest(MOST_IMAGES, asked, key=lambda row: (row.image_hash, row.path))
    classes, labels = np.unique(np.array([file.label for file in files]), return_inverse=True)
    if len(classes) < 2 or len(files) < 2 * folds.FOLDS:
        return None
    labelled = _LabelledFiles(files, labels)
    predicted = labelled.answers(_PROPERTIES)
    right = predicted == labels
    commonest = float(np.bincount(labels).max()) / len(labels)
    low, high = labelled.interval(right)
    clues: FileClues = {
        "images": len(files),
        "right": int(right.sum()),
        "commonest": commonest,
        "ci95": [low, high],
        "classes": [],
        "properties": [],
    }
    if not _is_told(float(right.mean()), commonest, low):
        clues["classes"] = list(_told_classes(labelled, classes, predicted))
    if clues["classes"]:
        is_told = np.isin(classes, [told["name"] for told in clues["classes"]])
        merged = np.where(is_told[labels], labels, len(classes))  # the others are one class
        clues["properties"] = _telling(_LabelledFiles(files, merged))
    elif _beyond(low, commonest) >= _FAR:
        clues["properties"] = _telling(labelled)
    return clues


class _LabelledFiles:
    """The files with their labels and folds.

    Args:
        files: The files, sorted by hash.
        labels: Number of the class of each, [n].
    """

    def __init__(self, files: Sequence[ImageRow], labels: Integers) -> None:
        self.labels = labels
        groups, _ = folds.find_groups(
            np.array([file.image_hash.encode() for file in files]),
            np.array([file.group.encode(errors="surrogateescape") for file in files]),
            np.array([file.near_group for file in files]),
            len(files) // folds.FOLDS,
        )
        self._groups = groups
        self._fold = folds.assign(labels, groups, folds.FOLDS)
        self._columns = {name: _columns(files, read) for name, read in _PROPERTIES.items()}

    def answers(self, properties: Iterable[str]) -> Integers:
        """Return the class of each file by some properties, by a tree that has not seen it, [n]."""
        from sklearn.tree import DecisionTreeClassifier

        values = np.concatenate([self._columns[name] for name in properties], axis=1)
        leaves = _LEAVES * (int(self.labels.max()) + 1)
        predicted = np.full(len(self.labels), -1)
        for number in np.unique(self._fold):
            held_out = self._fold == number
            if not held_out.all():
                tree = DecisionTreeClassifier(
                    min_samples_leaf=_LEAF, max_leaf_nodes=leaves, random_state=0
                )
                tree.fit(values[~held_out], self.labels[~held_out])
                predicted[held_out] = tree.predict(values[held_out])
        return predicted

    def interval(self, right: Flags, of: Flags | slice = slice(None)) -> tuple[float, float]:
        """Return the 95 % interval of the share of right answers, of all files or of some.

        Args:
            right: Whether each file is answered correctly, [n].
            of: Whether each file counts, [n].
        """
        return interval(right[of], self._groups[of])


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


def _told_classes(
    labelled: _LabelledFiles, classes: Array, predicted: Integers
) -> Iterator[ToldClass]:
    """Yield the classes that are told from all others."""
    for number, name in enumerate(classes.tolist()):
        of_class = labelled.labels == number
        taken = of_class | (predicted == number)
        right = of_class & (predicted == number)
        low, _ = labelled.interval(right, taken)
        # Whoever takes all images for the class is right for its share of them.
        if _is_told(float(right[taken].mean()), float(of_class.mean()), low):
            yield {"name": name, "images": int(taken.sum()), "right": int(right.sum())}


def _telling(labelled: _LabelledFiles) -> list[str]:
    """Return the properties each of which tells enough alone, or the few that do together."""

    def accuracy(*properties: str) -> float:
        return float((labelled.answers(properties) == labelled.labels).mean())

    guess = float(np.bincount(labelled.labels).max()) / len(labelled.labels)
    enough = _NEAR * _beyond(accuracy(*_PROPERTIES), guess)
    alone = {name: _beyond(accuracy(name), guess) for name in _PROPERTIES}
    telling = [name for name, advantage in alone.items() if advantage >= enough]
    if telling:
        return telling
    chosen = [max(alone, key=lambda name: alone[name])]
    while len(chosen) < len(_PROPERTIES) and _beyond(accuracy(*chosen), guess) < enough:
        others = (name for name in _PROPERTIES if name not in chosen)
        chosen.append(max(others, key=lambda name: accuracy(*chosen, name)))
    return [name for name in _PROPERTIES if name in chosen]


def _beyond(share: float, guess: float) -> float:
    """Return how far a share is above that of a guess: 0 for the same, 1 for all right."""
    return (share - guess) / (1 - guess)


def _is_told(share: float, guess: float, low: float, best: float = 1.0) -> bool:
    """Return whether a share of right answers is near the best, and surely far above a guess."""
    near = _beyond(share, guess) >= _NEAR * _beyond(best, guess)
    return near and _beyond(low, guess) >= _FAR


def sentence(clues: FileClues | None, accuracy: float | None = None) -> str:
    """Say which properties of the files tell the classes apart; "" if they do not.

    Args:
        clues: What was found, if anything was asked.
        accuracy: Accuracy of the model that has learned from the images. Without one, the
            properties have to tell nearly all images apart.

    Returns:
        A clause without a full stop, such as "format and size alone tell 98 % of the images apart".
    """
    if clues is None or not clues["properties"]:
        return ""
    properties = _listed(clues["properties"])
    verb = "tells" if len(clues["properties"]) == 1 else "tell"
    if clues["classes"]:
        class_names = [told["name"] for told in clues["classes"]]
        more = len(class_names) - _NAMED
        shown = [*class_names[:_NAMED], f"{more:,} more"] if more > 0 else class_names
        noun = "class" if len(class_names) == 1 else "the classes"
        return f"{properties} alone {verb} {noun} {_listed(shown)} from all others"
    share = clues["right"] / clues["images"]
    best = 1.0 if accuracy is None else accuracy
    if not _is_told(share, clues["commonest"], clues["ci95"][0], best):
        return ""
    return f"{properties} alone {verb} {math.floor(100 * share)} % of the images apart"


def _listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
