"""The same graph as a PipelineSpec for open-source Kubeflow Pipelines.

Its API server accepts schema 2.1 only. A file name ending in ``.yaml`` makes TFX write the bare
PipelineSpec.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from imgpipe.models.atomic_write import atomic_write
from imgpipe.pipeline.graph import NEVER_CACHED

#: What each container runs.
COMMAND = ("python", "-m", "imgpipe.pipeline.kubeflow.entry_point")


def compile_pipeline(pipeline: tfx_pipeline.Pipeline, image: str, output: Path) -> Path:
    """Write the PipelineSpec.

    Args:
      pipeline: The pipeline of `create_pipeline`. Its root is a URI that Kubeflow can reach, and
        becomes the default of a run that is submitted without a root.
      image: Container image with this package installed.
      output: File to write; ``.yaml`` is appended when it is missing.

    Returns:
      The file written.
    """
    target = output if output.suffix == ".yaml" else output.with_name(output.name + ".yaml")
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(COMMAND),
            use_pipeline_spec_2_1=True,
        ),
        output_dir=str(target.absolute().parent),
        output_filename=target.name,
    )
    runner.run(pipeline, write_out=True)
    spec = yaml.safe_load(target.read_text(encoding="utf-8"))
    # TFX writes the root only into the file for Vertex AI.
    spec["defaultPipelineRoot"] = pipeline.pipeline_info.pipeline_root
    for name in NEVER_CACHED:  # TFX knows one setting for all components
        spec["root"]["dag"]["tasks"][name]["cachingOptions"] = {}
    atomic_write(target, yaml.safe_dump(spec, sort_keys=False))
    return target
