"""Checks the summary of an earlier run before a command reads it.

Only the fields that commands read are declared here. All of them may be missing, because a run that
was refused has few of them. `imgpipe.pipeline.json_formats.run` declares what a run writes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from imgpipe.models.files import json_object

#: No count is beyond the integers that a float represents exactly, in which JSON is often read.
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Counts = dict[str, _Count]
_Number = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, le=1e10)]
_Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Gate(_Part):
    split: str | None = None
    value: _Share | None = None
    ci95: _Interval | None = None


class _Folds(_Part):
    folds: _Count
    mean: _Share
    std: float


class _Push(_Part):
    status: str | None = None
    version: _Count | _Number | None = None


class _Model(_Part):
    classes: list[str] | None = None


class _Data(_Part):
    files: _Count = Field(default=0, alias="in")
    rejected: _Count = 0
    splits: dict[str, _Counts] | None = None
    overrides: _Counts | None = None


class _Timings(_Part):
    total_s: _Seconds | None = None


class _Metrics(_Part):
    # The loss of a training that diverged is infinite or NaN.
    model_config = ConfigDict(strict=True, allow_inf_nan=True)

    accuracy: float | None = None
    loss: float | None = None
    ece: float | None = None


class _CurvePoint(_Part):
    images: _Count
    accuracy: _Share


class _Solution(_Part):
    learning_curve: list[_CurvePoint] | None = None


class _Training(_Part):
    solution: _Solution | None = None


class _Summary(_Part):
    status: Literal["blessed", "not_blessed", "refused", "failed", "interrupted"] | None = None
    blessed: bool = False
    verdict: str | None = None
    gate: _Gate | None = None
    cross_validation: _Folds | None = None
    push: _Push | None = None
    model: _Model | None = None
    data: _Data | None = None
    training: _Training | None = None
    metrics: dict[str, _Metrics] | None = None
    timings: _Timings | None = None
    report: str | None = None


_ARTIFACTS = TypeAdapter(dict[str, dict[str, str]], config=ConfigDict(strict=True))


def read(file: Path) -> dict[str, Any]:
    """Read the summary of a run.

    Args:
        file: ``summary.json`` in the folder of the run.

    Returns:
        The summary, with all fields that the file has.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no summary; the message says what is wrong.
    """
    return _read(file, _Summary.model_validate)


def read_artifacts(file: Path) -> dict[str, dict[str, str]]:
    """Read which artifacts a run made or used.

    Args:
        file: ``artifacts.json`` in the folder of the run.

    Returns:
        Folders of artifacts by component and output.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds something else; the message says what is wrong.
    """
    return _read(file, _ARTIFACTS.validate_python)


def _read(file: Path, check: Callable[[Any], object]) -> dict[str, Any]:
    """Read a file; if the check fails, the error describes the first field that is wrong."""
    content = json_object.read(file)
    try:
        check(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, found["loc"])) or "the file"
        raise ValueError(f"{where}: {found['msg'][:1].lower()}{found['msg'][1:]}") from None
    return content
