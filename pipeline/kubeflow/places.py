"""Paths of a configuration and URIs of artifacts as the containers see them.

The launcher of Kubeflow Pipelines copies each input artifact to a folder before the task runs, and
each output artifact back to its URI afterwards. TensorFlow's file system has no `minio://` or
`s3://`, so that a component has to work in these folders.

A container keeps nothing of its own. What one task leaves for another beside its artifacts, such as
published versions and stored features, must lie on a volume that every container mounts.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.running import Volume
from imgpipe.models.settings.section import INPUT, OUTPUT, PLACE, flat, marked
from imgpipe.models.settings.settings import Settings
from imgpipe.pipeline.configuration.config import WEIGHT_FILES, build
from imgpipe.pipeline.definition.source import among_images

#: Environment variable that moves the folders below another one than `/`.
ROOT = "IMGPIPE_KUBEFLOW_MOUNTS"
_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}
#: Beginnings of the URIs whose files the launcher mounts.
SCHEMES = tuple(_FOLDERS)
#: Stands for the id of the run in paths of the compiled pipeline.
RUN = "<run>"
#: Beginnings of sources that are read from the network instead of a volume.
_REMOTE = ("gs://", "s3://")
#: What TFX's compiler takes, `_LEGAL_NAME_PATTERN` in its pipeline_builder.py.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _root() -> Path:
    return Path(os.environ.get(ROOT) or "/")


def to_path(uri: str) -> str:
    """Return the path of a URI, such as `/minio/bucket/key`; the URI where it is not mounted."""
    for scheme, folder in _FOLDERS.items():
        if uri.startswith(scheme):
            return str(_root() / folder / uri.removeprefix(scheme))
    return uri


def to_uri(path: str) -> str:
    """Return the URI of a path, the inverse of `to_path`; the path where it is not mounted."""
    for scheme, folder in _FOLDERS.items():
        mounted = _root() / folder
        if Path(path).is_relative_to(mounted):
            return scheme + Path(path).relative_to(mounted).as_posix()
    return path


def in_run(path: str, output_uri: str) -> str:
    """Put the id of the run into a path of the compiled pipeline, such as `/data/runs/<run>`.

    Kubeflow Pipelines makes the URI of an output of the root, the name of the pipeline, the id of
    the run, the name of the task, a random UUID and the name of the output. Up to 2.3 there is no
    UUID (https://github.com/kubeflow/pipelines/pull/11243).
    """
    # Not from the placeholder of the id: Kubeflow Pipelines replaces it only in inputs, and another
    # input in each run would keep all tasks from the cache.
    parts = PurePosixPath(output_uri).parts  # counted from the end: the root has any number of them
    return path.replace(RUN, parts[-4 if _UUID.fullmatch(parts[-2]) else -3])


def on_volumes(config: Settings) -> Settings:
    """Make the paths of a configuration those of the containers.

    Args:
        config: The configuration. Relative paths in it are relative to the first volume.

    Returns:
        The configuration with absolute paths.

    Raises:
        ConfigError: A path lies on no volume, or outputs lie in the folder of the images; the
            message names each setting. Or a setting has no place in a pipeline.
    """
    volumes = config.kubeflow.volumes
    paths = {name: _absolute(path, volumes) for name, path in _paths(config).items()}
    outside = {name: path for name, path in paths.items() if not _reachable(path, volumes)}
    if outside:
        raise ConfigError(_unreachable(outside, volumes))
    folder = paths.get("model.backbone")
    if folder:
        paths["model.backbone"] = presets.PREFIX + folder
    placed = build(config.model_dump(), paths)
    images = placed.data.source
    for name, path in placed.places.outputs.items():  # which exist in the containers only
        if path.is_relative_to(images):
            raise ConfigError(among_images(name, path, images))
    _refuse_unsupported(placed)
    return placed


def _refuse_unsupported(config: Settings) -> None:
    """Refuse settings that would fail, or have no effect, in the compiled pipeline."""
    names_runner = any(argument.startswith("--runner") for argument in config.beam.args)
    if config.beam.job_endpoint or names_runner:
        raise ConfigError(
            "Kubeflow Pipelines puts the artifacts of a component into its container, where the "
            'workers of a cluster cannot read them. Expected: beam.runner = "local" or '
            '"processes", which uses all cores of the container, and no --runner in beam.args. '
            f"Received: {config.beam.runner!r}. For Flink or Spark, use `imgpipe run` on a host of "
            "the cluster."
        )
    if not _NAME.fullmatch(config.run.name):
        raise ConfigError(
            "run.name: expected small letters, digits and hyphens, beginning with a letter or a "
            f"digit, because Kubeflow Pipelines takes no other names. Received: "
            f"{config.run.name!r}. Add for example: --set run.name=cats-v2"
        )


def _paths(config: Settings) -> dict[str, str]:
    """Paths by the name of the setting, without those that are not set."""
    given = dict(flat(config.model_dump()))
    paths = {name: given[name] for name in marked(Settings, INPUT, OUTPUT, PLACE) if given[name]}
    source = paths.pop("data.source", "")
    if source.startswith("tfds:"):
        paths["data.tfds_dir"] = config.data.tfds_dir  # each container would download it again
    elif source and not source.startswith(_REMOTE):
        paths["data.source"] = source
    if config.model.weights.endswith(WEIGHT_FILES):
        paths["model.weights"] = config.model.weights
    folder = presets.folder_of(config.model.backbone)
    if folder:
        paths["model.backbone"] = folder
    return paths


def _absolute(path: str, volumes: tuple[Volume, ...]) -> str:
    # An absolute path stays as it is: joining one discards what is before it.
    return str(PurePosixPath(volumes[0].path) / path) if path and volumes else path


def _reachable(path: str, volumes: tuple[Volume, ...]) -> bool:
    place = PurePosixPath(path)
    below = any(place.is_relative_to(volume.path) for volume in volumes)
    return below and ".." not in place.parts  # such as /data/../etc, which is not below /data


def _unreachable(outside: dict[str, str], volumes: tuple[Volume, ...]) -> str:
    mounted = ", ".join(volume.path for volume in volumes) or "none"
    return "\n".join(
        [
            f"the containers of a pipeline share no folder but volumes. Mounted: {mounted}.",
            *(f"{name} lies on no volume. Received: {path!r}." for name, path in outside.items()),
            "Choose paths below a volume, or mount one with kubeflow.volumes: "
            '--set \'kubeflow.volumes=[{claim = "NAME", path = "/data"}]\'',
        ]
    )
