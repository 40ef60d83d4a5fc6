"""The parameters of components that depend on the images, on earlier runs and on four settings.

On one machine they are known before the graph is built, and the graph holds them as constants. A
compiled pipeline runs many times, so its graph holds a placeholder for each of them, which the
compiler for Kubeflow connects to the output of the component Plan.

TFX has dynamic execution properties for this purpose
(``component.outputs["x"].future()[0].value``), but they work with neither runner. On one machine,
TFX's launcher adds the artifact that holds the value to the inputs of the component. The cache key
then depends on the number of the artifact instead of the value, so no component after Plan would
ever use the cache. For Kubeflow, TFX's compiler (1.21) refers to a task that does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from imgpipe.models.features.extractor import describe, from_description
from imgpipe.pipeline import inputs as run_inputs
from imgpipe.pipeline.configuration import config as configs
from imgpipe.pipeline.configuration import flat_settings
from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.inputs import PassedInputs, RunInputs
from imgpipe.pipeline.source import require_outside, scan

#: `plan` as the component Plan finds it.
PLAN_FN = f"{__name__}:plan"
#: Settings that a run of a compiled pipeline may change, by the name of the parameter.
RUN_SETTINGS = {
    "source": "data.source",
    "threshold": "evaluate.threshold",
    "epochs": "train.epochs",
    "image_size": "model.image_size",
}


@dataclass(frozen=True)
class PlanParameters(PassedInputs):
    """Parameters that Plan determines. Those of several settings are JSON objects.

    Attributes:
        vocabulary: JSON list of class names in sorted order.
        classes: Number of classes.
        accept_changes: 1 if the anomalies, drift and skew of this data are accepted, otherwise 0.
        network: Description of the backbone, for FeatureBank.
        weights_key: Fingerprint of everything but the images that decides the features.
        custom_config: Settings of ImageTrainer's function.
        model_settings: Settings of the network and its training, for CrossValidator.
        evaluate: The section ``[evaluate]``, by which a model is blessed.
        facts: What the manifest of a published version says about its run.
        report_settings: Settings that the report shows.
    """

    vocabulary: str
    classes: int
    accept_changes: int
    network: str
    weights_key: str
    custom_config: str
    model_settings: str
    evaluate: str
    facts: str
    report_settings: str


@dataclass(frozen=True)
class Parameters:
    """What `create_pipeline` passes to the components beside constants of the configuration.

    Attributes:
        planned: What Plan determines: values, or placeholders of TFX.
        given: The settings in `RUN_SETTINGS`: values, or runtime parameters of TFX.
        known: JSON of `planned` for Plan, "" if Plan determines it.
    """

    planned: PlanParameters
    given: Mapping[str, Any]
    known: str = ""

    @property
    def compiled(self) -> bool:
        """Whether the graph is compiled for an orchestrator, whose tasks may run on any host."""
        return not self.known


def known(config: Config, inputs: RunInputs) -> Parameters:
    """Parameters of a run whose inputs are known before the graph is built.

    Args:
        config: The configuration.
        inputs: Inputs of the run.

    Returns:
        The parameters, which are values.
    """
    values = _planned(config, inputs)
    return Parameters(values, settings(config), json.dumps(asdict(values), sort_keys=True))


def settings(config: Config) -> dict[str, Any]:
    """Return the settings of a configuration that a run of a compiled pipeline may change."""
    values = dict(flat_settings.flat(config.model_dump()))
    return {name: values[setting] for name, setting in RUN_SETTINGS.items()}


def plan(config: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Determine the parameters in a task of a compiled pipeline; see the component Plan.

    Args:
        config: JSON of the configuration, as `to_json` writes it.
        given: Values of `RUN_SETTINGS`, which replace those of the configuration.

    Returns:
        The fields of `PlanParameters`.

    Raises:
        ConfigError: A setting is wrong, or the source cannot be read as one.
        ResourceError: The weights are missing.
    """
    tree = json.loads(config)
    for name, setting in RUN_SETTINGS.items():
        flat_settings.put(tree, setting, given[name])
    # Validated again, because people choose the values of `given` when they start a run.
    built = configs.build(tree, where="the parameters of the pipeline")
    run_inputs.check_files(built)
    require_outside(built)
    inputs = run_inputs.find(built, scan(built))
    run_inputs.freeze_schema(built, inputs)
    return asdict(_planned(built, inputs))


def to_json(config: Config) -> str:
    """Write a configuration as JSON for `plan`, with absolute paths."""
    return config.with_absolute_paths().model_dump_json(exclude_none=True)


def _planned(config: Config, inputs: RunInputs) -> PlanParameters:
    network = describe(config.settings, config.bank.precision)
    extractor = from_description(network)
    training = _training(config, inputs)
    shown = run_inputs.report_settings(config, inputs.vocabulary, inputs.fingerprint)
    return PlanParameters(
        **{one.name: getattr(inputs, one.name) for one in fields(PassedInputs)},
        vocabulary=json.dumps(inputs.vocabulary),
        classes=len(inputs.vocabulary),
        accept_changes=int(inputs.accept_changes),
        network=network,
        # View 0 is the image itself; view 1 stands for all augmented ones, which share settings.
        weights_key=f"{extractor.key(0)[:16]}-{extractor.key(1)[:16]}",
        custom_config=_json(training),
        model_settings=_json(asdict(config.settings)),
        evaluate=_json(config.evaluate.model_dump()),
        facts=_json(_facts(config, inputs)),
        report_settings=_json(shown),
    )


def _training(config: Config, inputs: RunInputs) -> dict[str, Any]:
    """Arguments of the training."""
    return {
        "model": asdict(config.settings),
        "vocabulary": list(inputs.vocabulary),
        "source_hash": inputs.code,
    }


def _facts(config: Config, inputs: RunInputs) -> dict[str, Any]:
    return {
        "run_key": inputs.run_key,
        "accepted_changes": inputs.accept_changes,
        "split_key": inputs.split_key,
        "name": config.run.name,
        "vocabulary": list(inputs.vocabulary),
        "fingerprint": inputs.fingerprint,
        "backbone": config.model.network,
        "image_size": config.settings.size,
        "baseline_version": inputs.baseline_version,
    }


def _json(value: object) -> str:
    # Sorted, because TFX's cache compares the text of a parameter.
    return json.dumps(value, sort_keys=True)
