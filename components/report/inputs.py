"""The artifacts that the report reads. Graph, component and facts share this table.

A new artifact needs one row here and one section in `sections/`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """An artifact that the report reads.

    Attributes:
      component: Id of the component that writes the artifact.
      output: Key of the component's output.
      type: Name of the artifact type, one of TFX's standard artifacts or of
        `components/artifacts.py`.
      optional: Whether some pipelines lack the component.
    """

    component: str
    output: str
    type: str
    optional: bool = False


#: Artifacts by the name that `facts.collect` uses for them.
REPORTED = {
    "quarantine": Reported("ImageFilter", "quarantine", "Quarantine"),
    "data_blessing": Reported("DataGate", "blessing", "DataBlessing"),
    "bank": Reported("FeatureBank", "features", "Examples"),
    "model_run": Reported("ImageTrainer", "model_run", "ModelRun"),
    "model": Reported("ImageTrainer", "model", "Model"),
    "baseline": Reported("Baseline", "model", "Model"),
    "evaluation": Reported("ImageEvaluator", "evaluation", "ModelEvaluation"),
    "model_blessing": Reported("ImageEvaluator", "blessing", "ModelBlessing"),
    "predictions": Reported("Predictor", "predictions", "Examples"),
    "infra_blessing": Reported("ServingValidator", "blessing", "InfraBlessing"),
    "pushed_model": Reported("ModelPusher", "pushed_model", "PushedModel"),
    "examples": Reported("ImageFilter", "examples", "Examples"),
    "cross_validation": Reported("CrossValidator", "blessing", "ModelBlessing", optional=True),
    "lite": Reported("LiteExporter", "lite", "LiteModels", optional=True),
}
