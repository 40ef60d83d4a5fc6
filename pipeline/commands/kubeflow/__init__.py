"""``imgpipe kubeflow``: runs the pipeline on Kubeflow Pipelines."""

from __future__ import annotations

import typer

from imgpipe.pipeline import options
from imgpipe.pipeline.commands.kubeflow import compile, schedule, submit

app = typer.Typer(
    name="kubeflow",
    help="Compile, submit and schedule the pipeline on Kubeflow Pipelines.",
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)
for _module in (compile, submit, schedule):
    app.add_typer(_module.app)
