"""The pipeline's components, one a file, pure logic beside each.

Names are resolved on first use (PEP 562): the judge and the command line import this package
without importing TFX. The artifact types must be reachable as ``components.<Type>`` because the
Kubeflow compiler writes their class path into the pipeline.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Quarantine": "components.artifacts",
    "DataBlessing": "components.artifacts",
    "RunReport": "components.artifacts",
    "LiteModels": "components.artifacts",
    "ImageExampleGen": "components.example_gen",
    "ImageFilter": "components.image_filter",
    "DataGate": "components.data_gate",
    "FeatureBank": "components.feature_bank",
    "ImageTuner": "components.tuner",
    "ImageTrainer": "components.trainer",
    "CrossValidator": "components.cross_validator",
    "Baseline": "components.baseline",
    "ImageEvaluator": "components.evaluator",
    "Predictor": "components.predictor",
    "LiteExporter": "components.lite_exporter",
    "ServingValidator": "components.serving_validator",
    "ModelPusher": "components.pusher",
    "Report": "components.report.component",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` the first time it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'components' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
