"""``imgpipe kubeflow``: the same graph for Kubeflow Pipelines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from models.errors import ConfigError
from pipeline import inputs as run_inputs
from pipeline import screen
from pipeline.commands.settings import configuration
from pipeline.run import scan


def compile_(
    source: str | None,
    data: str | None,
    output: Path,
    image: str,
    root: str,
    settings: Sequence[str],
) -> int:
    """Write the PipelineSpec; returns the exit code."""
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"{output}: the folder {output.absolute().parent} does not exist.")
    config = configuration(source, data, None, settings)
    inputs = run_inputs.find(config, scan(config))
    with tempfile.TemporaryDirectory() as folder, screen.quiet(Path(folder) / "log"):
        from pipeline import graph
        from pipeline.runners import kubeflow

        pipeline = graph.create_pipeline(config, inputs, graph.Place(root=root))
        written = kubeflow.compile_pipeline(pipeline, image, output)
    Console(highlight=False, soft_wrap=True).print(
        f"wrote {escape(str(written))}: {len(pipeline.components)} tasks, image {escape(image)}"
    )
    return 0
