"""Names of the pipeline's components, without TFX; a test compares them with the graph."""

from __future__ import annotations

from imgpipe.models.errors import ConfigError, nearest

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
    raise ConfigError(
        f"--from {name}: this pipeline has no such component"
        f"{nearest(name, TASKS)}. Components: {', '.join(TASKS)}."
    )


def step_name(component: str) -> str:
    """Return a component or another step as the display of a run shows it."""
    return f"{TASKS[component]} · {component}" if component in TASKS else component
