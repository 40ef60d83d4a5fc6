"""Session settings that come with a model, in ``assets.extra/saved_model_config.pb``.

The file is a serialized ``tensorflow.serving.SavedModelConfig``, as TensorFlow Serving reads it.
The graph rewriters for remote calls and for batching are not part of TensorFlow's Python package,
so that only the field ``disable_meta_optimizer`` has an effect here; the log names the others.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.textproto import make_message

FILE = "assets.extra/saved_model_config.pb"
_log = logging.getLogger(__name__)


def apply(directory: Path, config: Any) -> None:
    """Apply the settings of the model in ``directory`` to the ``ConfigProto`` of a session.

    Raises:
        StatusError: INTERNAL, the file is not a SavedModelConfig.
    """
    path = directory / FILE
    if not path.is_file():
        return
    message = make_message("SavedModelConfig")
    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise StatusError(Code.INTERNAL, f"Unable to parse SavedModelConfig: {path}") from error
    overrides = message.session_overrides
    if overrides.disable_meta_optimizer:
        config.graph_options.rewrite_options.disable_meta_optimizer = True
    names = [field.name for part in (overrides, message) for field, _ in part.ListFields()]
    unused = [n for n in names if n not in ("session_overrides", "disable_meta_optimizer")]
    if unused:
        _log.warning("%s: no effect on this server: %s", path, ", ".join(unused))
