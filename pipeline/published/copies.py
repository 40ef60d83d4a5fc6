"""What is copied out of a version: the version without images, and its example images.

A version also holds shrunk images, as warm-up requests, and what is known of the images that it was
trained on: digests, statistics and the distribution of their features.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import TEMPORARY, move_folder, sync_tree
from imgpipe.models.files.described_files import MANIFEST, SAVED_MODEL, files_below, version_damage
from imgpipe.pipeline.output.lookup import Model

KIND = "saved_model"  # the kind of `imgpipe export`
#: Files that do not answer, and tell nothing of the images.
_HARMLESS = (MANIFEST, "fingerprint.pb")
_EXAMPLES = 3  # images, at most


def place(model: Model, target: Path) -> Path:
    """Return the folder of the copy: `target` if its name is a number, otherwise one in it.

    Something at this place already is a ConfigError, and no folder for it a ResourceError.
    """
    base = target.parent if target.name.isdecimal() else target
    folder = target if base != target else target / str(model.version or 1)
    if folder.exists():
        raise ConfigError(f"--to {target}: {folder} exists already. Name another folder.")
    if not base.absolute().parent.is_dir():
        raise ResourceError(
            f"--to {target}: expected a folder in a folder that exists. Received: "
            f"{base.absolute().parent}, which does not exist. Create it first."
        )
    return folder


def write(model: Model, folder: Path) -> int:
    """Copy an intact version without its images and what is known of them; return its bytes.

    The folder of the copy appears as a whole. A ResourceError says that it cannot be written, or
    that a file changed meanwhile.
    """
    files = files_below(model.folder)
    copied = [name for name in files if manifest.answers(name) or name in _HARMLESS]
    staging = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        for name in copied:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files[name], staging / name)
        if MANIFEST in copied:
            _list_what_answers(staging / MANIFEST)
            if what := version_damage(staging, "all"):
                raise ResourceError(
                    f"{model.folder} changed while it was copied: {what}. Try again."
                )
        size = sum((staging / name).stat().st_size for name in copied)
        sync_tree(staging)
        move_folder(staging, folder, last=(SAVED_MODEL, MANIFEST))
    except OSError as error:
        raise ResourceError(f"cannot write --to {folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return size


def _list_what_answers(path: Path) -> None:
    """Let the manifest of a copy list only those files of the version that the copy has."""
    described = json_object.read(path)
    files = described["files"].items()
    described["files"] = {name: entry for name, entry in files if manifest.answers(name)}
    json_object.write(path, described)


def example_images(model: Path) -> tuple[bytes, ...]:
    """Return up to three of the images with which a server warms up, as JPEG files.

    The model has them at its own size, and without the place and the camera that a photograph may
    name.

    Args:
        model: Folder of the version, or of the SavedModel.

    Raises:
        ResourceError: The model holds no images.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    from imgpipe.models.export.saved_model import WARMUP_FILE

    file = model / "assets.extra" / WARMUP_FILE
    examples: list[bytes] = []
    try:
        for record in tf.data.TFRecordDataset(str(file)).take(_EXAMPLES).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            images = log.predict_log.request.inputs[names.IMAGE_BYTES].string_val
            examples.extend(images[:1])  # a request has one image, or all of them
    except (tf.errors.OpError, DecodeError):
        examples = []
    if not examples:
        raise ResourceError(
            f"{model} holds no validation images, as in a copy that was made to be passed on. "
            "Leave out --examples."
        )
    return tuple(examples)
