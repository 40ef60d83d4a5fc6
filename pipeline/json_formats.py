"""The JSON that the commands write: the format of each command by its name.

A result is declared where it is made, as a `TypedDict` whose annotations say what each field holds.
The page of the reference is generated from these declarations, and tests compare them with what the
commands write. A later release may add fields; the meaning of a field does not change as long as
`schema` has the same number.
"""

from __future__ import annotations

from typing import Any

from imgpipe.components.run_record.result import Result
from imgpipe.pipeline.output.run_history import RunComparison, RunList
from imgpipe.pipeline.published.predicted_images import PredictedImage, RefusedImage
from imgpipe.serving.server.model_server import ServerLine

#: The format of each command by its name, in the order of the reference.
FORMATS: dict[str, Any] = {
    "run": Result,
    "check": Result,
    "runs": RunList,
    "compare": RunComparison,
    "evaluate": Result,
    "predict": list[PredictedImage | RefusedImage],
    "serve": ServerLine,
    "drift": Result,
}
