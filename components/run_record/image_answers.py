"""What is known of every image of a feature bank: the answer to it, and how unlike others it is.

`imgpipe review` sorts the images of a run by it, so it is kept for all of them, in columns.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.run_record.doubtful_labels import ComparedLabels
from imgpipe.components.run_record.shown_images import Distances
from imgpipe.models.arrays import Floats

#: An image is unlike others if its distance is above the median by more robust standard
#: deviations. Of 8 photographs of cats among 500 of flowers, 7 are, and of the flowers 2 %; of
#: 8 flowers among 500 cats and dogs 3 are, and 0.4 % of the others.
UNLIKE = 2.5
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_TINY = 1e-12
_LEAST_WRONG = 1e-4  # of a label that is contradicted, which no rounding makes 0


class ImageAnswers(TypedDict):
    """Images in columns, one value for each of them."""

    image_hash: Annotated[list[str], "SHA-256 of the file."]
    predicted: Annotated[
        list[int], "Class that a network which has not seen the image answers; -1 for none."
    ]
    sure: Annotated[list[float], "Probability of that class."]
    wrong: Annotated[list[float], "Probability that the label is wrong; 0 where it was answered."]
    unlike_class: Annotated[
        list[float], "Distance from its class, in standard deviations above the usual one."
    ]
    unlike_all: Annotated[list[float], "The same for the class that is nearest to the image."]


def image_answers(distances: Distances, compared: ComparedLabels) -> ImageAnswers:
    """Return the columns."""
    wrong = compared.wrong
    shown_wrong = np.where(wrong > 0, np.maximum(wrong, _LEAST_WRONG), 0)
    return {
        "image_hash": compared.hashes.astype(str).tolist(),
        "predicted": compared.predicted.tolist(),
        "sure": _rounded(compared.sure),
        "wrong": _rounded(shown_wrong),
        "unlike_class": _rounded(_deviations(distances.own)),
        "unlike_all": _rounded(_deviations(distances.nearest)),
    }


def _deviations(distance: Floats) -> Floats:
    """Return by how many robust standard deviations each value lies above the median."""
    above = distance - np.median(distance)
    return np.asarray(above / (_MAD_TO_DEVIATION * np.median(np.abs(above)) + _TINY))


def _rounded(values: Floats) -> list[float]:
    rounded: list[float] = np.round(values.astype(float), 4).tolist()
    return rounded
