"""Names of the pipeline's components, without TFX; a test compares them with the graph."""

from __future__ import annotations

import difflib

from imgpipe.models.errors import ConfigError

#: What each component does, for the display of a run, in the order of the graph.
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
    "ServingValidator": "Check the model in a server",
    "Predictor": "Classify the images",
    "ImageEvaluator": "Evaluate the model",
    "ModelPusher": "Publish a blessed model",
    "Report": "Write the report",
}


def full_name(name: str) -> str:
    """Return the component that `--from` names, regardless of upper and lower case.

    Raises:
        ConfigError: There is no such component.
    """
    components = {component.lower(): component for component in TASKS}
    if name.lower() in components:
        return components[name.lower()]
    # A part of a name is enough for the hint; difflib rates "eval" and "ImageEvaluator" at 0.44.
    close = [component for key, component in components.items() if name and name.lower() in key]
    close = close or difflib.get_close_matches(name, components.values(), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"--from {name}: this pipeline has no such component; {hint}"
        f"Components: {', '.join(components.values())}."
    )


def step_name(component: str) -> str:
    """Return a component or another step as the display of a run shows it."""
    return f"{TASKS[component]} · {component}" if component in TASKS else component
