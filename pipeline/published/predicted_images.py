"""The answers of `imgpipe predict` as it writes them to JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.models.errors import printable, without_secrets
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.serving.client.classifier import Answer
from imgpipe.serving.client.errors import InvalidArgument

AnsweredFile: TypeAlias = tuple[Path, Answer]
"""The path of an image, and its classification or why it was refused."""

#: Columns of the table, which are those of the web page's CSV file.
_COLUMNS = ("file", "label", "probability", "version", "note", "error")
#: What is said of an image about which the model knows nothing, as on the web page.
UNLIKE = "unlike all that the model has learned"
_FORMULA = tuple("=+-@")  # a cell that begins so would be run by a spreadsheet


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


def describe(path: Path, answer: Answer) -> PredictedImage | RefusedImage:
    """Describe the answer for an image.

    Args:
        path: Path of the image.
        answer: Its classification, or why it was refused.
    """
    if isinstance(answer, Exception):
        return {"schema": SCHEMA, "image": without_secrets(str(path)), "error": str(answer)}
    return {
        "schema": SCHEMA,
        "image": str(path),
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": name, "probability": share} for name, share in answer.top],
        "unlike": answer.unlike,
        "version": answer.version or None,
    }


def table(answers: Sequence[AnsweredFile]) -> str:
    """Return the answers as CSV, with a line for each image.

    Args:
        answers: Each path with its answer.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for path, answer in answers:
        if isinstance(answer, Exception):
            cells = [without_secrets(str(path)), "", "", "", "", first_line(answer)]
        else:
            version = str(answer.version or 0)
            of_label = "" if answer.probability is None else f"{answer.probability:.6f}"
            note = UNLIKE if answer.unlike else ""
            cells = [str(path), answer.label, of_label, version, note, ""]
        shown = map(printable, cells)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in shown])
    return text.getvalue()


def first_line(error: InvalidArgument) -> str:
    """Return why an image was refused, without the trace of TensorFlow's graph.

    Args:
        error: The error of the image.
    """
    return str(error).split("\n", 1)[0].strip()
