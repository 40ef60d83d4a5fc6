"""The answers for images, in Python and as `imgpipe predict` writes them to JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.report.blocks import Inline, Span
from imgpipe.models.errors import printable, without_secrets
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.serving.client import Classification
from imgpipe.serving.client.classifier import Answer

#: Columns of the table, which are those of the web page's CSV file.
_COLUMNS = ("file", "label", "probability", "version", "note", "error")
#: What is said of an image about which the model knows nothing, as on the web page.
UNLIKE = "unlike all that the model has learned"
#: What is said of an answer that is less probable than was asked for.
UNSURE = "unsure"
_FORMULA = tuple("=+-@")  # a cell that begins so would be run by a spreadsheet


@dataclass(frozen=True)
class ImageAnswer(Classification):
    """The answer for one image: its classification, or why it could not be classified."""

    image: str
    """Path of the image, or its index among those that were given."""
    error: str = ""
    """Why the image was refused; empty for one that was classified."""

    @classmethod
    def of(cls, image: str, answer: Answer) -> ImageAnswer:
        """Return the answer for an image of this name."""
        if isinstance(answer, Classification):
            return cls(**vars(answer), image=image)
        why = str(answer).split("\n", 1)[0].strip()  # without the trace of TensorFlow's graph
        return cls("", 0.0, (), 0, None, False, without_secrets(image), why)


class LabelProbability(TypedDict):
    """A class with its probability."""

    label: Annotated[str, "Name of the class."]
    probability: Annotated[float, "Probability of the class."]


class PredictedImage(TypedDict):
    """An image that the model classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    label: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the label."]
    top: Annotated[list[LabelProbability], "The most probable classes."]
    unlike: Annotated[
        bool | None,
        "Whether the image is unlike all that the model has learned, so that the answer is not to "
        "be relied on; null if the model cannot tell that.",
    ]
    unsure: Annotated[bool, "Whether the probability is below the one of --unsure-below."]
    version: Annotated[
        int | None,
        "Version of the model that answered; null for a model that is not named by a number.",
    ]


class RefusedImage(TypedDict):
    """An image that could not be classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    error: Annotated[str, "Why the image was refused."]


def answer_words(top: Sequence[tuple[str, float]], *more: str) -> list[Inline]:
    """Return the most probable classes of an answer in words, and what else is said of it."""
    [(label, probability), *rest] = top
    others = [f"{name} {share:.3f}" for name, share in rest]
    return [
        Span(label, "strong"),
        f" {probability:.3f}  ",
        Span(", ".join([*others, *more]), "muted"),
    ]


def describe(answer: ImageAnswer) -> PredictedImage | RefusedImage:
    """Return the answer for an image as JSON has it."""
    if answer.error:
        return {"schema": SCHEMA, "image": answer.image, "error": answer.error}
    return {
        "schema": SCHEMA,
        "image": answer.image,
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": name, "probability": share} for name, share in answer.top],
        "unlike": answer.unlike,
        "unsure": answer.unsure,
        "version": answer.version or None,
    }


def table(answers: Sequence[ImageAnswer]) -> str:
    """Return the answers as CSV, with a line for each image."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for answer in answers:
        if answer.error:
            cells = [answer.image, "", "", "", "", answer.error]
        else:
            version = str(answer.version or "")
            note = "; ".join([UNSURE] * answer.unsure + [UNLIKE] * bool(answer.unlike))
            cells = [answer.image, answer.label, f"{answer.probability:.6f}", version, note, ""]
        shown = map(printable, cells)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in shown])
    return text.getvalue()
