"""Names of the pipeline's components.

They are listed here so that ``--from`` can be checked without importing TFX. A test compares them
with the graph.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    from imgpipe.pipeline.configuration.config import Config

#: What each component does, for the display of a run.
TASKS = {
    "Plan": "Plan the run",
    "Baseline": "Find the last version",
    "ImageExampleGen": "Read the images",
    "ImageFilter": "Check the images",
    "StatisticsGen": "Describe the data",
    "SchemaGen": "Infer the schema",
    "ExampleValidator": "Compare with the schema",
    "DataGate": "Accept or refuse the data",
    "FeatureBank": "Compute the features",
    "ImageTrainer": "Train the model",
    "CrossValidator": "Cross-validate",
    "ServingValidator": "Check the model in a server",
    "Predictor": "Classify the images",
    "ImageEvaluator": "Evaluate the model",
    "ModelPusher": "Publish the model",
    "Report": "Write the report",
}


def names(config: Config) -> list[str]:
    """Return the components of the graph in their order.

    Args:
        config: The validated configuration.
    """
    folds = ["CrossValidator"] if config.folds else []
    return [
        *("Plan", "Baseline", "ImageExampleGen", "ImageFilter", "StatisticsGen", "SchemaGen"),
        *("ExampleValidator", "DataGate", "FeatureBank", "ImageTrainer"),
        *(*folds, "ServingValidator", "Predictor", "ImageEvaluator"),
        *("ModelPusher", "Report"),
    ]


def find(name: str, config: Config) -> str:
    """Find the component that ``--from`` names, regardless of upper and lower case.

    Args:
        name: Value of the option.
        config: The validated configuration.

    Raises:
        ConfigError: The graph of this configuration has no such component.
    """
    known = names(config)
    # A part of a name is enough for the hint; difflib rates "eval" and "ImageEvaluator" at 0.44.
    close = [one for one in known if name and name.lower() in one.lower()]
    if exact := [one for one in close if one.lower() == name.lower()]:
        return exact[0]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"--from {name}: this pipeline has no such component; {hint}Components: {', '.join(known)}."
    )
