"""Parameters of the compiled pipeline.

There are two kinds: values that a run is given, such as the source, and values that the task Plan
determines. The graph is compiled with a runtime parameter of TFX for each value. In the
PipelineSpec, the values of a run become parameters of the pipeline with defaults, and those of Plan
become outputs of Plan, which other tasks read.
"""

from __future__ import annotations

import typing
from typing import Any

from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.data_types import RuntimeParameter

from imgpipe.pipeline.configuration.config import Config
from imgpipe.pipeline.plan import RUN_SETTINGS, Plan, settings

_PLAN = "Plan"
_PREFIX = "plan_"  # tells Plan's parameters from those of a run, such as "source"


def placeholders(config: Config) -> tuple[Plan, dict[str, Any]]:
    """Create the parameters with which the graph is compiled.

    Args:
        config: The configuration, whose settings are the defaults of the parameters of a run.

    Returns:
        The plan, and the settings of a run; all values are runtime parameters of TFX.
    """
    types = typing.get_type_hints(Plan)
    planned: dict[str, Any] = {
        name: RuntimeParameter(_PREFIX + name, ptype=kind) for name, kind in types.items()
    }
    given = {
        name: RuntimeParameter(name, ptype=type(default), default=default)
        for name, default in settings(config).items()
    }
    return Plan(**planned), given


def connect(spec: dict[str, Any], pipeline: tfx_pipeline.Pipeline) -> None:
    """Make the placeholders parameters of the pipeline and outputs of Plan.

    Args:
        spec: The PipelineSpec that TFX's compiler wrote, which is changed in place.
        pipeline: The pipeline that was compiled.
    """
    declared = spec["root"]["inputDefinitions"]["parameters"]
    for name, default in _defaults(pipeline).items():
        declared[name]["description"] = f"The setting {RUN_SETTINGS[name]}."
        if default != "":  # a pipeline without a source is given one at each start
            declared[name] |= {"defaultValue": default, "isOptional": True}
    planned = {name: declared.pop(name) for name in list(declared) if name.startswith(_PREFIX)}
    outputs = spec["components"][_PLAN]["outputDefinitions"].setdefault("parameters", {})
    for name, kind in planned.items():
        outputs[name.removeprefix(_PREFIX)] = kind
    for task in spec["root"]["dag"]["tasks"].values():
        for source in task.get("inputs", {}).get("parameters", {}).values():
            name = source.get("componentInputParameter")
            if name in planned:
                del source["componentInputParameter"]
                source["taskOutputParameter"] = {
                    "producerTask": _PLAN,
                    "outputParameterKey": name.removeprefix(_PREFIX),
                }
                # TFX saw no dependency, because the parameter was one of the pipeline.
                task["dependentTasks"] = sorted({*task.get("dependentTasks", ()), _PLAN})


def _defaults(pipeline: tfx_pipeline.Pipeline) -> dict[str, Any]:
    """Defaults of the parameters of a run."""
    found = (value for node in pipeline.components for value in node.exec_properties.values())
    parameters = [value for value in found if isinstance(value, RuntimeParameter)]
    return {one.name: one.default for one in parameters if one.name in RUN_SETTINGS}
