"""Plan: the first component, which determines what depends on the images and on earlier runs.

It lists and fingerprints the source, reads the last blessed version, and resolves overrides and the
accepted schema. What it finds becomes parameters of the components after it, so that their caches
notice new images, and notice nothing else.
"""

import json
import pkgutil

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component

from imgpipe.components.common.artifacts import RunPlan
from imgpipe.components.common.storage import records
from imgpipe.models.settings.section import PLAN_FILE


@component
def Plan(
    plan: OutputArtifact[RunPlan],
    plan_fn: Parameter[str],
    config: Parameter[str],
    source: Parameter[str],
    threshold: Parameter[float],
    epochs: Parameter[int],
    image_size: Parameter[int],
    parameters: Parameter[str] = "",
) -> None:
    """Write the parameters of the other components.

    Args:
        plan: Output: `plan.json`, an object of parameters by name.
        plan_fn: Function that determines them, as `module:function`. It is called with the
            configuration and with a dictionary of the four settings below.
        config: JSON of the configuration.
        source: Source of the images.
        threshold: Accuracy that the model must reach, 0 to 1.
        epochs: Upper limit of the epochs of the training.
        image_size: Side in pixels that the backbone sees, 0 for its own.
        parameters: JSON of the parameters where the runner has determined them already, which the
            local runner does while TensorFlow is imported. "" determines them here.

    Raises:
        ConfigError: The source cannot be read as one, or a setting does not fit its images.
        ResourceError: The weights are missing.
    """
    given = {"source": source, "threshold": threshold, "epochs": epochs, "image_size": image_size}
    values = json.loads(parameters) if parameters else pkgutil.resolve_name(plan_fn)(config, given)
    records.write_json(f"{plan.uri}/{PLAN_FILE}", values)
