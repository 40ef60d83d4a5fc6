"""Names of the pipeline's components, known without importing TFX.

``--from`` is checked with them before anything heavy is imported. A test compares them with the
graph.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from imgpipe.models.errors import ConfigError

if TYPE_CHECKING:
    from imgpipe.pipeline.config import Config


def names(config: Config) -> list[str]:
    """The components of the graph of a configuration, in their order."""
    tuner = ["ImageTuner"] if config.tune.trials else []
    folds = ["CrossValidator"] if config.evaluate.cross_validate else []
    lite = ["LiteExporter"] if config.export.lite else []
    return [
        *("Baseline", "ImageExampleGen", "ImageFilter", "StatisticsGen", "SchemaGen"),
        *("ExampleValidator", "DataGate", "FeatureBank", *tuner, "ImageTrainer"),
        *("ImageEvaluator", "Predictor", "ServingValidator", *folds, *lite),
        *("ModelPusher", "Report"),
    ]


def find(name: str, config: Config) -> str:
    """The component that ``--from`` names; upper and lower case do not matter.

    Raises:
      ConfigError: the graph of this configuration has no such component.
    """
    known = names(config)
    by_lower = {candidate.lower(): candidate for candidate in known}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    inside = [candidate for candidate in known if name and name.lower() in candidate.lower()]
    close = inside or difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[close[0].lower()]!r}? " if close else ""
    raise ConfigError(
        f"--from {name}: this pipeline has no such component; {hint}Components: {', '.join(known)}."
    )
