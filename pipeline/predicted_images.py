"""The answers of `imgpipe predict` as it writes them to JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.serving.client.classifier import Answer


class LabelProbability(TypedDict):
    """A class with its probability."""

    label: Annotated[str, "Name of the class."]
    probability: Annotated[float, "Probability of the class."]


class PredictedImage(TypedDict):
    """An image that the model classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    label: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]
    top: Annotated[list[LabelProbability], "The most probable classes."]
    version: Annotated[
        int | None,
        "Version of the model that answered; null for a model that is not named by a number.",
    ]


class RefusedImage(TypedDict):
    """An image that could not be classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    error: Annotated[str, "Why the image was refused."]


def describe(path: Path, answer: Answer) -> PredictedImage | RefusedImage:
    """Describe the answer for an image.

    Args:
        path: Path of the image.
        answer: Its classification, or why it was refused.
    """
    if isinstance(answer, Exception):
        return {"schema": SCHEMA, "image": str(path), "error": str(answer)}
    return {
        "schema": SCHEMA,
        "image": str(path),
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": name, "probability": share} for name, share in answer.top],
        "version": answer.version or None,
    }
