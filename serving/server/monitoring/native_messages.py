"""Messages that the native libraries of TensorFlow and gRPC write to standard error.

They do not have the format of the server's log, so a program could not read the log line by line,
and clients could fill the log with invalid requests.
"""

from __future__ import annotations

import gc
import os
import sys


def limit() -> None:
    """Limit the messages to errors of TensorFlow. Call it before TensorFlow and gRPC are used.

    ``TF_CPP_MIN_LOG_LEVEL`` and ``GRPC_VERBOSITY`` in the environment are respected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def import_tensorflow() -> None:
    """Import TensorFlow without the messages that its libraries write at every log level.

    The libraries write some messages while they are loaded. CUDA writes an error when TensorFlow
    first lists the GPUs of a machine that has none, so the GPUs are listed here as well.

    The garbage collector is off meanwhile and never visits the objects that the import creates.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    gc.disable()
    try:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")
    finally:
        gc.freeze()
        gc.enable()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
