"""Parts that several formats share."""

from __future__ import annotations

from typing import Annotated, TypedDict

Interval = list[float]


class Document(TypedDict):
    """What one command writes."""

    schema: Annotated[int, "Version of this format, 1."]


class ClassMetrics(TypedDict):
    """Metrics of one class."""

    count: Annotated[int, "Number of images with this label."]
    recall: Annotated[float | None, "Share of these images that are predicted correctly."]
    precision: Annotated[float | None, "Share of the predictions of this class that are correct."]
    f1: Annotated[float, "Harmonic mean of recall and precision; 0 if one is missing."]


class Probability(TypedDict):
    """A class with its probability."""

    label: Annotated[str, "Name of the class."]
    probability: Annotated[float, "Probability of the class."]
