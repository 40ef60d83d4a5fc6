"""Operations that are not part of TensorFlow: libraries of custom operations, and TF Text."""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Iterable

from imgpipe.serving.server.errors import BadArgument

_TEXT = "tensorflow_text"
_log = logging.getLogger(__name__)


def load_libraries(paths: Iterable[str]) -> frozenset[str]:
    """Load shared libraries of custom operations into this process.

    Args:
        paths: Paths of the libraries, as for ``tf.load_op_library``.

    Returns:
        The names of their operations. These count as trusted, because the user chose the library.

    Raises:
        BadArgument: A file does not exist or is not such a library.
    """
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    names: set[str] = set()
    for path in paths:
        try:
            library = pywrap_tf_session.TF_LoadLibrary(path)
        except (tf.errors.OpError, RuntimeError) as error:
            raise BadArgument(
                f"--custom_op_library names a file that TensorFlow {tf.__version__} cannot load: "
                f"{error}. Received: {path}. Build it for this version and give its full path."
            ) from error
        try:
            operations = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetOpList(library))
        finally:
            pywrap_tf_session.TF_DeleteLibraryHandle(library)
        names.update(operation.name for operation in operations.op)
    return frozenset(names)


@functools.cache
def load_text() -> frozenset[str]:
    """Load the operations of TF Text where it is installed, and return their names."""
    if importlib.util.find_spec(_TEXT) is None:
        return frozenset()
    from imgpipe.serving.server.runtimes.allowed_ops import registered

    before = {operation.name for operation in registered()}
    try:
        importlib.import_module(_TEXT)
    except Exception as error:  # e.g. built for another TensorFlow; other models still work
        _log.warning("TF Text is installed and cannot be used: %s", error)
        return frozenset()
    return frozenset(operation.name for operation in registered()) - before
