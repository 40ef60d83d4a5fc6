"""The JSON that the commands write, field by field.

Each format is a TypedDict whose annotations say what a field holds. The page of the reference is
generated from these types, and tests compare them with what the commands write. A later release may
add fields; the meaning of a field does not change as long as `schema` has the same number.
"""

from __future__ import annotations

from typing import Any

from imgpipe.pipeline.json_formats import data, models, run, runs, serving

#: The format of each command by its name, in the order of the reference.
FORMATS: dict[str, Any] = {
    "run": run.Summary,
    "check": data.Check,
    "quarantine list": data.QuarantineRow,
    "runs": runs.Runs,
    "compare": runs.Comparison,
    "evaluate": models.Evaluation,
    "export": models.Export,
    "explain": models.Explained,
    "predict": list[models.Prediction],
    "serve": serving.ServerLine,
    "drift": serving.Drift,
}
