"""Errors that say that the machine lacks something, and nothing about a model."""

from __future__ import annotations

import errno


def lacking(error: Exception) -> str:
    """Return what the machine had not enough of, "memory" or "disk"; "" for another error.

    Args:
        error: What was raised. TensorFlow raises ResourceExhaustedError for both.
    """
    import tensorflow as tf

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    lacks_memory = isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)
    return "memory" if lacks_memory else ""
