"""The Kubeflow runner: the same graph as a PipelineSpec for open-source Kubeflow Pipelines.

Schema 2.1 is what its API server accepts; a file name ending in .yaml makes TFX write the bare
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
COMMAND = (
    "python",
    "-m",
    "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
)


def compile_pipeline(pipeline: tfx_pipeline.Pipeline, image: str, output: Path) -> Path:
    """Write the PipelineSpec.

    Args:
      pipeline: of `create_pipeline`, rooted at a URI that Kubeflow can reach.
      image: container image with this package installed.
      output: file to write; ``.yaml`` is appended when it is missing.

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
    for name in NEVER_CACHED:  # TFX knows one setting for all components
        spec["root"]["dag"]["tasks"][name]["cachingOptions"] = {}
    atomic_write(target, yaml.safe_dump(spec, sort_keys=False))
    return target
