"""The records that runs and commands write as JSON, field by field.

Each is a model whose annotations say what a field holds. The summary of a run is built, written and
read with its model; the page of the reference is generated from all of them, and tests compare them
with what the commands write. A later release may add fields; the meaning of a field does not change
as long as `schema` has the same number.
"""

from __future__ import annotations

from typing import Any

from imgpipe.pipeline.records import models, runs, serving
from imgpipe.pipeline.records import run_summary as run

#: The format of each command by its name, in the order of the reference.
FORMATS: dict[str, Any] = {
    "run": run.RunSummary,
    "check": models.CheckSummary,
    "quarantine list": models.QuarantineRow,
    "runs": runs.Runs,
    "compare": runs.RunComparison,
    "evaluate": models.EvaluationSummary,
    "predict": list[models.PredictedImage],
    "serve": serving.ServerLine,
    "drift": serving.Drift,
}
