"""The pipeline that the tests compile and run."""

from pathlib import Path

from imgpipe.pipeline.demo import draw as drawn
from tests.e2e.case import as_assignments


def draw(folder: Path) -> Path:
    """Draw images with planted faults into a folder, and return it."""
    return drawn(folder, per_class=24, size=112)


def compiled(
    photos: Path | str,
    output: Path,
    root: str,
    volumes: str,
    *settings: str,
    image: str = "image:1",
) -> Path:
    """Compile the pipeline of the images with the settings of a short run; return its file.

    `photos` is the folder as the containers see it, artifacts are written below the URI `root`, and
    `volumes` are entries of the list `kubeflow.volumes`, in TOML.
    """
    from imgpipe.pipeline.commands.kubeflow import compile_

    given = [*as_assignments(), f"kubeflow.volumes=[{volumes}]", *settings]
    compile_(None, str(photos), output, image, root, given)
    return output
