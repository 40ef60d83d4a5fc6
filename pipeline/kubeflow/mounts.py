"""Converts between URIs of artifacts and the folders in which Kubeflow Pipelines mounts them.

The launcher copies each input artifact to a folder before the task runs, and each output artifact
back to its URI afterwards. TensorFlow's file system has no ``minio://`` or ``s3://``, so that a
component has to work in these folders.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

#: Environment variable that moves the folders below another one than ``/``.
ROOT = "IMGPIPE_KUBEFLOW_MOUNTS"
_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}
#: Beginnings of the URIs whose files the launcher mounts.
SCHEMES = tuple(_FOLDERS)
#: Stands for the id of the run in paths of the compiled pipeline.
RUN = "<run>"


def _root() -> Path:
    return Path(os.environ.get(ROOT) or "/")


def to_path(uri: str) -> str:
    """Find the folder or file in the container that stands for a URI.

    Args:
      uri: For example ``minio://bucket/key``.

    Returns:
      For example ``/minio/bucket/key``; `uri` itself where its scheme is not mounted.
    """
    for scheme, folder in _FOLDERS.items():
        if uri.startswith(scheme):
            return str(_root() / folder / uri.removeprefix(scheme))
    return uri


def to_uri(path: str) -> str:
    """Find the URI that a folder or file in the container stands for.

    Args:
      path: For example ``/minio/bucket/key``.

    Returns:
      For example ``minio://bucket/key``; `path` itself where it lies in no mounted folder.
    """
    for scheme, folder in _FOLDERS.items():
        mounted = _root() / folder
        if Path(path).is_relative_to(mounted):
            return scheme + Path(path).relative_to(mounted).as_posix()
    return path


def in_run(path: str, output_uri: str) -> str:
    """Put the id of the run into a path of the compiled pipeline.

    Args:
      path: For example ``/data/runs/<run>``.
      output_uri: URI of any output. Kubeflow Pipelines makes it of the root, the name of the
        pipeline, the id of the run, the name of the task, a random id and the name of the output.

    Returns:
      For example ``/data/runs/4f0c…``.
    """
    # Counted from the end, because the root may have any number of parts.
    return path.replace(RUN, PurePosixPath(output_uri).parts[-4])
