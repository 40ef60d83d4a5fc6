"""Names in a model: layers that are added to a backbone, outputs, and files of its training."""

from __future__ import annotations

from typing import Final

SERVED_NAME: Final = "imgpipe"  # in requests, unless `run.name` or `--model` gives another

HEAD: Final = "classifier"  # the layer that computes the logits
HIDDEN: Final = "classifier_hidden"
DROPOUT: Final = "classifier_dropout"
FEATURE_DROPOUT: Final = "classifier_feature_dropout"
FEATURES: Final = "features"
AXES: Final = "covariance_axes"  # beginning of the names of layers, one for each map
LOGITS: Final = "logits"
PROBABILITIES: Final = "probabilities"

#: The layers of a backbone must have other names.
ADDED: Final = (FEATURES, HEAD, PROBABILITIES, HIDDEN, DROPOUT, FEATURE_DROPOUT)

#: Files that training writes to the ModelRun artifact.
HISTORY_FILE: Final = "history.json"
DISTRIBUTION_FILE: Final = "assets.extra/feature_distribution.npz"  # below the SavedModel
OUT_OF_FOLD_FILE: Final = "assets.extra/out_of_fold.npz"  # below the SavedModel
PARITY_FILE: Final = "parity.tfrecord"
TENSORBOARD_FOLDER: Final = "tensorboard"
KERAS_CONFIG: Final = "config.json"  # in a preset of KerasHub, and in a .keras archive
