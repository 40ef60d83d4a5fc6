"""Weights of the classes in a loss, as a remedy for classes of unequal size."""

import numpy as np
import numpy.typing as npt


def class_weights(
    labels: npt.NDArray[np.int64], classes: int, balance: str
) -> npt.NDArray[np.float32]:
    """Return the weight of each class in the loss, float32 [classes].

    Args:
        labels: Label indices of the training rows, int64 [n].
        classes: Number of classes.
        balance: With "class_weights", the weight is n / (number of classes that occur x rows of the
            class), so that all classes contribute equally. Otherwise all weights are 1.
    """
    if balance != "class_weights":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    present = np.count_nonzero(counts)
    # The weight of a class without rows is never used; the maximum avoids a division by 0.
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)
