"""Names of the layers that are added to a backbone, and of the outputs of the whole network."""

from __future__ import annotations

from typing import Final

HEAD: Final = "classifier"  # the layer that computes the logits
HIDDEN: Final = "classifier_hidden"
DROPOUT: Final = "classifier_dropout"
FEATURE_DROPOUT: Final = "classifier_feature_dropout"
FEATURES: Final = "features"
LOGITS: Final = "logits"
PROBABILITIES: Final = "probabilities"

#: The layers of a backbone must have other names.
ADDED: Final = (FEATURES, HEAD, PROBABILITIES, HIDDEN, DROPOUT, FEATURE_DROPOUT)
