"""The outcome of CrossValidator as other components read it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from imgpipe.components.storage import records

RESULT = "cross_validation.json"


def folds_decide(uri: str) -> bool:
    """Check whether the folds decide on the threshold, and not the validation split.

    Args:
        uri: URI of the blessing of CrossValidator; "" if there is none.
    """
    return deciding_folds(uri) is not None


def deciding_folds(uri: str) -> dict[str, Any] | None:
    """Read the result of the folds where they decide; None where the validation split does.

    Args:
        uri: URI of the blessing of CrossValidator; "" if there is none.
    """
    path = f"{uri}/{RESULT}"
    if not uri or not tf.io.gfile.exists(path):
        return None
    found: dict[str, Any] = records.read_json(path)
    return found if found.get("decides", True) else None
