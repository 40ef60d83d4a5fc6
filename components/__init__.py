"""The components of the pipeline, each a module, or a folder that also holds the logic it needs.

Names are imported on first use (PEP 562), so that `imgpipe check` and the command line can import
this package without importing TFX.
"""

from __future__ import annotations

import importlib
from typing import Any

_ARTIFACTS = ("Quarantine", "DataBlessing", "RunReport", "RunPlan")
_MODULES = {
    **dict.fromkeys(_ARTIFACTS, "imgpipe.components.common.artifacts"),
    "Plan": "imgpipe.components.plan",
    "ImageExampleGen": "imgpipe.components.example_gen.image_example_gen",
    "ImageFilter": "imgpipe.components.image_filter.image_filter",
    "StatisticsGen": "imgpipe.components.statistics_gen",
    "SchemaGen": "imgpipe.components.data_gate.data_gate",
    "DataGate": "imgpipe.components.data_gate.data_gate",
    "FeatureBank": "imgpipe.components.feature_bank.feature_bank",
    "ImageTrainer": "imgpipe.components.image_trainer",
    "ImageEvaluator": "imgpipe.components.image_evaluator.image_evaluator",
    "ServingValidator": "imgpipe.components.serving_validator",
    "ModelPusher": "imgpipe.components.model_pusher.model_pusher",
    "Report": "imgpipe.components.report.report",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import the module that defines `name` on first access."""
    if name not in _MODULES:
        raise AttributeError(f"module 'imgpipe.components' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
