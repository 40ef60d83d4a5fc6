"""`imgpipe kubeflow`: prepares the pipeline for Kubeflow Pipelines."""

from __future__ import annotations

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.commands.kubeflow import compile

_EXAMPLES = """Examples:\n
  imgpipe kubeflow compile photos.toml -o pipeline.yaml
"""

app = typer.Typer(
    name="kubeflow",
    help="Compile the pipeline for Kubeflow Pipelines.\n\n"
    "docs/kubeflow.md says how it is submitted, and on what it was run.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)
app.add_typer(compile.app)
