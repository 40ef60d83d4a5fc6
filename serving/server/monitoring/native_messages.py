"""Messages that the native libraries of TensorFlow and gRPC write to standard error.

They have another form than the server's log, so that a program could not read that log line by
line, and clients that send nonsense could fill it.
"""

from __future__ import annotations

import os
import sys


def limit() -> None:
    """Limit the messages to errors of TensorFlow. Call it before TensorFlow and gRPC are used.

    ``TF_CPP_MIN_LOG_LEVEL`` and ``GRPC_VERBOSITY`` in the environment are respected.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def import_tensorflow() -> None:
    """Import TensorFlow without the messages that its libraries write whatever the level.

    They write some while they are loaded, and an error of CUDA at the first look for GPUs where
    there is none. That look takes place once in a process, which is here.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
