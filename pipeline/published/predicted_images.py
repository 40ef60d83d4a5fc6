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
            values = (answer.label, answer.probability, answer.top, answer.version, answer.unlike)
            return cls(*values, image)
        why = str(answer).split("\n", 1)[0].strip()  # without the trace of TensorFlow's graph
        return cls("", None, (), 0, None, without_secrets(image), why)


class LabelProbability(TypedDict):
    """A class with its probability."""

    label: Annotated[str, "Name of the class."]
    probability: Annotated[float, "Probability of the class."]


class PredictedImage(TypedDict):
    """An image that the model classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    label: Annotated[str, "The predicted class."]
    probability: Annotated[
        float | None, "Probability of the label; null where it is no class, as `unknown`."
    ]
    top: Annotated[list[LabelProbability], "The most probable classes."]
    unlike: Annotated[
        bool | None,
        "Whether the image is unlike all that the model has learned, so that the answer is not to "
        "be relied on; null where that is not known, as from a server.",
    ]
    version: Annotated[
        int | None,
        "Version of the model that answered; null for a model that is not named by a number.",
    ]


class RefusedImage(TypedDict):
    """An image that could not be classified."""

    schema: SchemaNumber
    image: Annotated[str, "Path of the image."]
    error: Annotated[str, "Why the image was refused."]


def answer_words(
    label: str, probability: float | None, top: Sequence[tuple[str, float]], *more: str
) -> list[Inline]:
    """Return an answer in words: the label, other classes, and what else is said of it.

    Args:
        label: The label; `unknown` is no class.
        probability: Probability of the label; None where it is no class.
        top: The most probable classes, of which the first is the label if that is a class.
        *more: What is said behind the classes, such as the version.
    """
    is_class = probability is not None
    of_label = f" {probability:.3f}  " if is_class else "  "
    others = [f"{name} {share:.3f}" for name, share in top[is_class:]]
    return [Span(label, "strong"), of_label, Span(", ".join([*others, *more]), "muted")]


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
            of_label = "" if answer.probability is None else f"{answer.probability:.6f}"
            note = UNLIKE if answer.unlike else ""
            cells = [answer.image, answer.label, of_label, version, note, ""]
        shown = map(printable, cells)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in shown])
    return text.getvalue()
