"""`imgpipe kubeflow`: runs the pipeline on Kubeflow Pipelines."""

from __future__ import annotations

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.commands.kubeflow import compile, submit

_EXAMPLES = """Examples:\n
  imgpipe kubeflow compile photos.toml -o pipeline.yaml\n
  imgpipe kubeflow submit imgpipe-pipeline.yaml --host https://kfp.example.com --wait
"""

app = typer.Typer(
    name="kubeflow",
    help="Compile and submit the pipeline for Kubeflow Pipelines.\n\n"
    "docs/kubeflow.md says on what the compiled pipeline was run.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)
for _module in (compile, submit):
    app.add_typer(_module.app)
