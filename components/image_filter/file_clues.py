"""How well the files tell the classes apart, whatever the images show.

If the images of each class come from a source of their own, such as one hospital or one camera, a
model may learn the source: its accuracy is high, and it fails on images from elsewhere. Such files
often differ in format, size or quality too. So a small decision tree answers for the kept images of
train and validation by these properties alone, each by a tree that was trained on other folds, and
images of one family are in one fold as for the head. If it tells nearly all images apart, or those
of a class from all others, `sentence` says so; nothing is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models import names
from imgpipe.models.arrays import Array, Floats, Integers, Names
from imgpipe.models.features import folds
from imgpipe.models.head.certainty import interval

if TYPE_CHECKING:
    import pandas as pd

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


#: The properties, by the words for them: the columns from which a tree reads each. The size in
#: bytes is none, because it is what the image shows: drawings and plain backgrounds are packed
#: smaller.
_PROPERTIES: Final[Mapping[str, Sequence[str]]] = {
    "format": ("format",),
    "colour mode": ("mode", "is_grey"),
    "size": ("width", "height", "aspect"),
    "JPEG quality": ("jpeg_tables", "subsampling"),
    "camera": ("camera",),
}


class FileClues(TypedDict):
    """How well properties of the files tell the classes apart."""

    images: Annotated[int, "Images of train and validation that were asked about."]
    right: Annotated[int, "Images whose class the best property tells, in cross-validation."]
    classes: Annotated[
        list[str],
        "The classes that are told from all others, where not all classes are told apart.",
    ]
    properties: Annotated[
        list[str],
        "The properties each of which tells this alone; empty where the files tell nothing.",
    ]


def clues_of(kept: pd.DataFrame) -> FileClues | None:
    """Ask how well the properties of files tell the classes apart; None for too few images.

    Those of test are not asked about, because no decision uses test. Of many others, those with the
    smallest hashes are, which are as good as random numbers.
    """
    files = kept[kept["split"] != names.TEST].sort_values(["image_hash", "path"])[:MOST_IMAGES]
    classes, labels = np.unique(files["label"], return_inverse=True)
    if len(classes) < 2 or len(files) < 2 * folds.FOLDS:
        return None
    files = files.assign(aspect=files["width"] / files["height"].clip(lower=1))
    families = files["family"].to_numpy().astype(np.bytes_)
    fold = folds.assign(labels, families, folds.FOLDS)
    telling: dict[str, Sequence[int]] = {}  # the classes that a property tells from all others
    right = 0
    for name, columns in _PROPERTIES.items():
        predicted = _answers(_values(files, columns), labels, fold)
        right = max(right, int((predicted == labels).sum()))
        if _tell(labels, predicted, families):
            telling[name] = range(len(classes))
            continue
        numbers = range(len(classes))
        told = [n for n in numbers if _tell(labels == n, predicted == n, families)]
        if told:
            telling[name] = told
    of_all = [name for name, told in telling.items() if len(told) == len(classes)]
    told_apart = sorted({number for told in telling.values() for number in told})
    return {
        "images": len(files),
        "right": right,
        "classes": [] if of_all else classes[told_apart].tolist(),
        "properties": of_all or [*telling],
    }


def _values(files: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return the values of a property as numbers, float32 [n, columns].

    Texts are numbered by how often they occur, so that a tree separates the usual ones first.
    """
    values = []
    for column in (files[name] for name in columns):
        if column.dtype == object:
            counts = sorted(column.value_counts().items(), key=lambda item: (-item[1], item[0]))
            column = column.map({text: number for number, (text, _) in enumerate(counts)})
        values.append(column.to_numpy(np.float32))
    return np.stack(values, axis=1)


def _answers(values: Floats, labels: Integers, fold: Integers) -> Integers:
    """Return the label of each file by some values, by a tree that has not seen its fold, [n]."""
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    leaves = _LEAVES * (int(labels.max()) + 1)
    tree = DecisionTreeClassifier(min_samples_leaf=_LEAF, max_leaf_nodes=leaves, random_state=0)
    if len(np.unique(fold)) < 2:  # all images are of one family
        return np.full(len(labels), -1)
    predicted: Integers = cross_val_predict(tree, values, labels, cv=PredefinedSplit(fold))
    return predicted


def _tell(labels: Array, predicted: Array, families: Names) -> bool:
    """Return whether answers [n] are nearly all right, and surely far better than a guess."""
    right = predicted == labels
    guess = np.unique(labels, return_counts=True)[1].max() / len(labels)
    low, _ = interval(right, families)
    share, least = ((value - guess) / (1 - guess) for value in (float(right.mean()), low))
    return bool(share >= _NEAR and least >= _FAR)


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
