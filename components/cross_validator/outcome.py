"""The outcome of CrossValidator as other components read it."""

from __future__ import annotations

import tensorflow as tf

from imgpipe.components import records

RESULT = "cross_validation.json"


def folds_decide(uri: str) -> bool:
    """Check whether the folds decide on the threshold, and not the validation split.

    Args:
        uri: URI of the blessing of CrossValidator; "" if there is none.
    """
    path = f"{uri}/{RESULT}"
    if not uri or not tf.io.gfile.exists(path):
        return False
    return bool(records.read_json(path).get("decides", True))
