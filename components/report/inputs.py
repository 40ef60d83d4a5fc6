"""The artifacts that the report reads. Graph, component and facts share this table.

A section about a new artifact needs one row here, which names the file with its facts, and the
section in `sections/` with its template.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgpipe.components.image_filter import quarantine
from imgpipe.models.features.bank import BANK_FILE
from imgpipe.models.model_names import HISTORY_FILE


@dataclass(frozen=True)
class Reported:
    """An artifact that the report reads.

    Attributes:
        component: Id of the component that writes the artifact.
        output: Key of the component's output.
        type: Name of the artifact type, one of TFX's standard artifacts or of
            `components/artifacts.py`.
        optional: Whether some pipelines lack the component.
        file: JSON file in the artifact that is part of the facts as it is; "" if there is none.
        fact: Name of the file's content in the facts; "" for the name of the artifact.
    """

    component: str
    output: str
    type: str
    optional: bool = False
    file: str = ""
    fact: str = ""


#: Artifacts by the name that `facts.collect` uses for them.
REPORTED = {
    "quarantine": Reported(
        "ImageFilter", "quarantine", "Quarantine", file=quarantine.SUMMARY, fact="data"
    ),
    "data_blessing": Reported(
        "DataGate", "blessing", "DataBlessing", file="gate.json", fact="data_gate"
    ),
    "bank": Reported("FeatureBank", "features", "Examples", file=BANK_FILE),
    "model_run": Reported(
        "ImageTrainer", "model_run", "ModelRun", file=HISTORY_FILE, fact="training"
    ),
    "model": Reported("ImageTrainer", "model", "Model"),
    "baseline": Reported("Baseline", "model", "Model", file="baseline.json"),
    "model_blessing": Reported(
        "ImageEvaluator",
        "blessing",
        "ModelBlessing",
        file="decision.json",
        fact="gate",
    ),
    "predictions": Reported("Predictor", "predictions", "Examples"),
    "infra_blessing": Reported(
        "ServingValidator",
        "blessing",
        "InfraBlessing",
        file="validation.json",
        fact="serving",
    ),
    "pushed_model": Reported(
        "ModelPusher", "pushed_model", "PushedModel", file="push.json", fact="push"
    ),
    "examples": Reported("ImageFilter", "examples", "Examples"),
    "cross_validation": Reported(
        "CrossValidator",
        "result",
        "ModelEvaluation",
        optional=True,
        file="cross_validation.json",
    ),
}
