"""``imgpipe kubeflow``: runs the pipeline on Kubeflow Pipelines, or compiles it for Vertex AI."""

from __future__ import annotations

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.commands.kubeflow import compile, schedule, submit

_EXAMPLES = """Examples:\n
  imgpipe kubeflow compile photos.toml --root gs://bucket/root\n
  imgpipe kubeflow submit photos.toml --root gs://bucket/root --host https://kfp.example.com
"""

app = typer.Typer(
    name="kubeflow",
    help="Compile, submit and schedule the pipeline on Kubeflow Pipelines, or compile it for "
    "Vertex AI Pipelines.\n\n"
    "Kubeflow's own driver and launcher ran the compiled pipeline task by task. It was not run on "
    "a cluster or on Google Cloud; docs/kubeflow.md says what was tried.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)
for _module in (compile, submit, schedule):
    app.add_typer(_module.app)
