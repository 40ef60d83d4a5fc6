"""Converts between URIs of artifacts and the folders in which a container finds them.

The launcher of Kubeflow Pipelines copies each input artifact to a folder before the task runs, and
each output artifact back to its URI afterwards. TensorFlow's file system has no `minio://` or
`s3://`, so that a component has to work in these folders.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

#: Environment variable that moves the folders below another one than `/`.
ROOT = "IMGPIPE_KUBEFLOW_MOUNTS"
_FOLDERS = {"minio://": "minio", "s3://": "s3", "gs://": "gcs"}
#: Beginnings of the URIs whose files the launcher mounts.
SCHEMES = tuple(_FOLDERS)
#: Stands for the id of the run in paths of the compiled pipeline.
RUN = "<run>"
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
