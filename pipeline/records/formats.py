"""The JSON format of each command, for the reference and for tests."""

from __future__ import annotations

from typing import Any

from imgpipe.pipeline.commands.predict import PredictedImage, RefusedImage
from imgpipe.pipeline.data_check import CheckSummary
from imgpipe.pipeline.published.evaluation_summary import EvaluationSummary
from imgpipe.pipeline.records.quarantine_list import QuarantineRow
from imgpipe.pipeline.records.run_summary import RunSummary
from imgpipe.pipeline.request_drift.examination import DriftSummary
from imgpipe.pipeline.run_history.run_comparison import RunComparison
from imgpipe.pipeline.run_history.run_list import RunList
from imgpipe.serving.server.model_server import ServerLine

#: The format of each command by its name, in the order of the reference.
FORMATS: dict[str, Any] = {
    "run": RunSummary,
    "check": CheckSummary,
    "quarantine list": QuarantineRow,
    "runs": RunList,
    "compare": RunComparison,
    "evaluate": EvaluationSummary,
    "predict": list[PredictedImage | RefusedImage],
    "serve": ServerLine,
    "drift": DriftSummary,
}
