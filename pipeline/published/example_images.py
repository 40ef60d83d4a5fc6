"""Images of the validation split that a model holds, for the page on which it is tried."""

from __future__ import annotations

from pathlib import Path

from imgpipe.models.errors import ResourceError
from imgpipe.models.names import feature_names as names

_COUNT = 3


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
        for record in tf.data.TFRecordDataset(str(file)).take(_COUNT).as_numpy_iterator():
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
