"""`imgpipe kubeflow`: compiles the pipeline for Kubeflow Pipelines."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.machine.system import install_extra
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console, say

_DEFAULT_ROOT = "minio://mlpipeline/imgpipe"
_EXAMPLES = """Examples:\n
  imgpipe kubeflow compile photos.toml -o pipeline.yaml
"""

app = typer.Typer(
    name="kubeflow",
    help="Compile the pipeline for Kubeflow Pipelines.\n\n"
    "docs/kubeflow.md says how a run is submitted, and on what it was tried.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)


@app.command("compile", epilog=_EXAMPLES)
def compile_(
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    output: options.OutputOption = Path("imgpipe-pipeline.yaml"),
    image: Annotated[
        str,
        typer.Option(
            "--image", help="Container image with imgpipe and kfp installed: kubeflow.image."
        ),
    ] = "",
    root: Annotated[
        str,
        typer.Option(
            "--root",
            help="Folder of all artifacts, unless a run is submitted with another one, such as "
            "minio://bucket/imgpipe.",
        ),
    ] = _DEFAULT_ROOT,
    settings: options.SettingsOption = None,
) -> None:
    """Write the PipelineSpec that Kubeflow Pipelines runs."""
    _require_kfp()
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.configuration.config import build
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration
    from imgpipe.pipeline.kubeflow import places

    _check_root(root)
    if image:
        settings = [*(settings or []), f"kubeflow.image={json.dumps(image)}"]
    built = configuration(config, data, None, assigned(settings or []))
    if "tfma" not in built.evaluate.model_fields_set:  # engineers read TFMA's result
        built = build(built.model_dump(), {"evaluate.tfma": True})
    placed = places.on_volumes(built)
    with consoles.quiet():
        with quick_imports():
            from imgpipe.pipeline.definition import graph
            from imgpipe.pipeline.kubeflow import compiler, groups

        storage = graph.Storage(root=root, run_directory=compiler.run_directory(placed))
        texts, given = compiler.placeholders(placed)
        pipeline = graph.create_pipeline(placed, texts, storage, given)
        written = compiler.compile_pipeline(pipeline, placed, output)
    image = placed.kubeflow.image
    words = f"wrote {written}: {len(groups.GROUPS)} tasks, image {image}"
    say(new_console(), words, whole=True)


def _require_kfp() -> None:
    """Refuse to go on without the package kfp, which the extra `kubeflow` brings."""
    if importlib.util.find_spec("kfp") is None:
        raise ResourceError(
            "imgpipe kubeflow needs the package kfp, which is not installed. Install it with: "
            + install_extra("kubeflow")
        )


def _check_root(root: str) -> None:
    """Refuse a root of artifacts in no object store that the launcher of Kubeflow mounts."""
    from imgpipe.pipeline.kubeflow import places

    if not root.startswith(places.SCHEMES):
        raise ConfigError(
            f"--root {root}: expected the URI of an object store, beginning with "
            f"{', '.join(places.SCHEMES)}, because the containers of a pipeline share no folder. "
            f"For example: --root {_DEFAULT_ROOT}"
        )
